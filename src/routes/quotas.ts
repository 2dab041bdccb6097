// /v1/organization/projects/{id}/quotas: limits of active jobs and stored bytes; and their enforcement for other routes.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { ProjectId } from '../schemas/projects.ts';
import { exampleQuotas, quotasToWire, type UpdateProjectQuotasBody } from '../schemas/quotas.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction, type Queryable } from '../store/database.ts';
import { lockProject } from '../store/projects.ts';
import * as store from '../store/quotas.ts';
import { actorOf } from './authentication.ts';
import { administration } from './openapi.ts';
import { findActiveProject, findProject } from './projects.ts';

export function quotaRoutes(app: FastifyInstance, deps: Deps): void {
  const path = '/v1/organization/projects/:project_id/quotas';
  const answer = { 200: json('The quotas.', Type.Ref('ProjectQuotas'), exampleQuotas) };
  const read = async (id: string) =>
    quotasToWire(id, await store.readQuotas(deps.pool, id), await store.readQuotaUse(deps.pool, id));

  app.get<{ Params: ProjectId }>(
    path,
    {
      schema: {
        ...administration,
        operationId: 'retrieveProjectQuotas',
        summary: "Retrieve a project's quotas",
        description: 'Quotas and their current use.',
        params: ProjectId,
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => read((await findProject(deps, request.params.project_id)).id),
  );

  app.post<{ Params: ProjectId; Body: UpdateProjectQuotasBody }>(
    path,
    {
      schema: {
        ...administration,
        operationId: 'updateProjectQuotas',
        summary: "Update a project's quotas",
        description: 'Omitted fields are unchanged; null removes a quota. Existing objects are kept.',
        params: ProjectId,
        body: Type.Ref('UpdateProjectQuotasRequest'),
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => {
      const { id } = await findActiveProject(deps, request.params.project_id);
      const { max_active_jobs: jobs, max_stored_bytes: bytes } = request.body;
      await inTransaction(deps.pool, async tx => {
        await lockProject(tx, id);
        const before = await store.readQuotas(tx, id);
        await store.writeQuotas(tx, id, {
          maxActiveJobs: jobs === undefined ? before.maxActiveJobs : jobs,
          maxStoredBytes: bytes === undefined ? before.maxStoredBytes : bytes,
        });
        await appendAuditLog(tx, {
          type: 'project.updated',
          actor: actorOf(request),
          projectId: id,
          resourceId: id,
          details: { changes_requested: request.body },
        });
      });
      return read(id);
    },
  );
}

// ---- enforcement

/** The largest file that the project may store now, with the error for a larger one: a first check, before bytes are stored. */
export async function limitWithin(
  db: Queryable,
  projectId: string,
  limitBytes: number,
): Promise<{ limitBytes: number; tooLarge?(): ApiError }> {
  const { maxStoredBytes } = await store.readQuotas(db, projectId);
  if (maxStoredBytes === null) return { limitBytes };
  const { storedBytes } = await store.readQuotaUse(db, projectId);
  const room = Math.max(0, maxStoredBytes - storedBytes);
  if (room >= limitBytes) return { limitBytes };
  return { limitBytes: room, tooLarge: () => noRoom(projectId, maxStoredBytes) };
}

/** Throws if `bytes` more would exceed the quota. Call in the transaction that stores them. */
export async function checkRoom(db: Queryable, projectId: string, bytes: number): Promise<void> {
  const quotas = await store.lockQuotas(db, projectId);
  if (!quotas || quotas.maxStoredBytes === null) return;
  const { storedBytes } = await store.readQuotaUse(db, projectId);
  if (storedBytes + bytes > quotas.maxStoredBytes) throw noRoom(projectId, quotas.maxStoredBytes);
}

function noRoom(projectId: string, maxStoredBytes: number): ApiError {
  return new ApiError(
    'insufficient_quota',
    `Project ${projectId} may store ${maxStoredBytes} bytes, and this would be more. Delete files or models, or ask for a larger quota.`,
  );
}

/** Throws if the project has reached its quota of jobs. Call in the transaction that creates one. */
export async function checkActiveJobs(db: Queryable, projectId: string): Promise<void> {
  const quotas = await store.lockQuotas(db, projectId);
  if (!quotas || quotas.maxActiveJobs === null) return;
  const { activeJobs } = await store.readQuotaUse(db, projectId);
  if (activeJobs < quotas.maxActiveJobs) return;
  throw new ApiError(
    'insufficient_quota',
    `Project ${projectId} has ${activeJobs} jobs that have not ended, and may have ${quotas.maxActiveJobs}. Wait for one to end, cancel one, or ask for a larger quota.`,
  );
}
