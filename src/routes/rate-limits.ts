// /v1/organization/projects/{id}/rate_limits: list and update. metering.ts enforces them.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import { ProjectId } from '../schemas/projects.ts';
import {
  changeLimits,
  exampleRateLimit,
  ListRateLimitsQuery,
  modelOfId,
  RateLimitId,
  rateLimitToWire,
  type UpdateRateLimitBody,
} from '../schemas/rate-limits.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction, type Queryable } from '../store/database.ts';
import { listModels } from '../store/models.ts';
import { type Page, toPage } from '../store/pages.ts';
import { lockProject } from '../store/projects.ts';
import { ALL_MODELS, type RateLimit, readRateLimits, writeRateLimit } from '../store/rate-limits.ts';
import { actorOf } from './authentication.ts';
import { administration } from './openapi.ts';
import { findActiveProject, findProject } from './projects.ts';

export function rateLimitRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Params: ProjectId; Querystring: ListRateLimitsQuery }>(
    '/v1/organization/projects/:project_id/rate_limits',
    {
      schema: {
        ...administration,
        operationId: 'listProjectRateLimits',
        summary: 'List rate limits',
        description: 'One for all models together, and one for each base model.',
        params: ProjectId,
        querystring: ListRateLimitsQuery,
        response: {
          200: json(
            'A page of rate limits.',
            Type.Ref('ProjectRateLimitListResponse'),
            exampleList(exampleRateLimit),
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id } = await findProject(deps, request.params.project_id);
      return toWireList(pageOf(await allLimits(deps.pool, id), request.query), rateLimitToWire);
    },
  );

  app.post<{ Params: RateLimitId; Body: UpdateRateLimitBody }>(
    '/v1/organization/projects/:project_id/rate_limits/:rate_limit_id',
    {
      schema: {
        ...administration,
        operationId: 'updateProjectRateLimit',
        summary: 'Update a rate limit',
        description: 'Applies from the next request on, in every api process.',
        params: RateLimitId,
        body: Type.Ref('ProjectRateLimitUpdateRequest'),
        response: {
          200: json('The rate limit.', Type.Ref('ProjectRateLimit'), exampleRateLimit),
          ...errorResponses(404),
        },
      },
    },
    async request => rateLimitToWire(await updateLimit(deps, request)),
  );
}

/** Includes models without limits. */
async function allLimits(db: Queryable, projectId: string): Promise<RateLimit[]> {
  const limits = new Map((await readRateLimits(db, projectId)).map(limit => [limit.model, limit]));
  const bases = (await listModels(db, projectId)).filter(model => model.kind === 'base');
  const models = new Set([ALL_MODELS, ...[...bases.map(base => base.id), ...limits.keys()].sort()]);
  const none = { requestsPerMinute: null, tokensPerMinute: null, requestsPerDay: null };
  return [...models].map(model => limits.get(model) ?? { projectId, model, ...none });
}

function pageOf(limits: RateLimit[], { after, before, limit }: ListRateLimitsQuery): Page<RateLimit> {
  const place = (id: string) => limits.findIndex(one => one.model === modelOfId(id));
  if (before !== undefined) {
    const end = Math.max(0, place(before));
    return { rows: limits.slice(Math.max(0, end - limit), end), hasMore: end > limit };
  }
  const start = after === undefined ? 0 : place(after) + 1 || limits.length;
  return toPage(limits.slice(start, start + limit + 1), limit);
}

async function updateLimit(
  deps: Deps,
  request: FastifyRequest<{ Params: RateLimitId; Body: UpdateRateLimitBody }>,
): Promise<RateLimit> {
  const { project_id, rate_limit_id: id } = request.params;
  const { id: projectId } = await findActiveProject(deps, project_id);
  return inTransaction(deps.pool, async tx => {
    await lockProject(tx, projectId);
    const before = (await allLimits(tx, projectId)).find(limit => limit.model === modelOfId(id));
    if (!before) throw new ApiError('not_found', `No such rate limit: ${id}`, { param: 'rate_limit_id' });
    const limit = { ...before, ...changeLimits(before, request.body) };
    await writeRateLimit(tx, limit);
    await appendAuditLog(tx, {
      type: 'rate_limit.updated',
      actor: actorOf(request),
      projectId,
      resourceId: id,
      details: { changes_requested: request.body },
    });
    return limit;
  });
}
