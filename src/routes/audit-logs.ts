// GET /v1/organization/audit_logs: lists changes of keys, projects, limits and models, with their actors.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { auditLogToWire, exampleAuditLog, ListAuditLogsQuery } from '../schemas/audit-logs.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import { operator } from '../schemas/project-keys.ts';
import { listAuditLogs } from '../store/audit-logs.ts';
import { administration } from './openapi.ts';

export function auditLogRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Querystring: ListAuditLogsQuery }>(
    '/v1/organization/audit_logs',
    {
      schema: {
        ...administration,
        operationId: 'listAuditLogs',
        summary: 'List the audit log',
        description: 'Newest first. Entries are never changed or deleted.',
        querystring: ListAuditLogsQuery,
        response: {
          200: json('A page of entries.', Type.Ref('ListAuditLogsResponse'), exampleList(exampleAuditLog)),
          ...errorResponses(),
        },
      },
    },
    async request => {
      const { query } = request;
      const isOperators = query.actor_emails?.includes(operator.email) ?? true;
      if (query.tenant_only || !isOperators) return toWireList({ rows: [], hasMore: false }, auditLogToWire);
      const page = await listAuditLogs(deps.pool, {
        limit: query.limit,
        after: query.after,
        before: query.before,
        types: query.event_types,
        projectIds: query.project_ids,
        actorIds: query.actor_ids,
        resourceIds: query.resource_ids,
        effectiveAt: query.effective_at,
      });
      return toWireList(page, auditLogToWire);
    },
  );
}
