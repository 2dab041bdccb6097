// /v1/organization/projects/{id}/api_keys: list, retrieve, update, delete. Keys are created for service accounts or by the CLI.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import {
  exampleProjectApiKey,
  ListProjectApiKeysQuery,
  ProjectApiKeyId,
  projectApiKeyToWire,
  type UpdateProjectApiKeyBody,
} from '../schemas/project-keys.ts';
import { ProjectId } from '../schemas/projects.ts';
import * as store from '../store/api-keys.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction } from '../store/database.ts';
import { actorOf } from './authentication.ts';
import { administration } from './openapi.ts';
import { findActiveProject, findProject } from './projects.ts';

export function projectKeyRoutes(app: FastifyInstance, deps: Deps): void {
  const answer = { 200: json('The key.', Type.Ref('ProjectApiKey'), exampleProjectApiKey) };

  app.get<{ Params: ProjectId; Querystring: ListProjectApiKeysQuery }>(
    '/v1/organization/projects/:project_id/api_keys',
    {
      schema: {
        ...administration,
        operationId: 'listProjectApiKeys',
        summary: "List a project's keys",
        description: 'Oldest first, without deleted keys.',
        params: ProjectId,
        querystring: ListProjectApiKeysQuery,
        response: {
          200: json(
            'A page of keys.',
            Type.Ref('ProjectApiKeyListResponse'),
            exampleList(exampleProjectApiKey),
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id: projectId } = await findProject(deps, request.params.project_id);
      const { owner_project_access: access, ...page } = request.query;
      const keys =
        access === 'inactive'
          ? { rows: [], hasMore: false }
          : await store.listProjectKeys(deps.pool, { projectId, ...page });
      return toWireList(keys, projectApiKeyToWire);
    },
  );

  app.get<{ Params: ProjectApiKeyId }>(
    '/v1/organization/projects/:project_id/api_keys/:api_key_id',
    {
      schema: {
        ...administration,
        operationId: 'retrieveProjectApiKey',
        summary: "Retrieve a project's key",
        description: 'Metadata of a key, without the key itself.',
        params: ProjectApiKeyId,
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => projectApiKeyToWire(await findKey(deps, request)),
  );

  app.post<{ Params: ProjectApiKeyId; Body: UpdateProjectApiKeyBody }>(
    '/v1/organization/projects/:project_id/api_keys/:api_key_id',
    {
      schema: {
        ...administration,
        operationId: 'updateProjectApiKey',
        summary: "Update a project's key",
        description: 'Changes scopes, expiry, or both, from the next request on.',
        params: ProjectApiKeyId,
        body: Type.Ref('UpdateProjectApiKeyRequest'),
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => projectApiKeyToWire(await updateKey(deps, request)),
  );

  app.delete<{ Params: ProjectApiKeyId }>(
    '/v1/organization/projects/:project_id/api_keys/:api_key_id',
    {
      schema: {
        ...administration,
        operationId: 'deleteProjectApiKey',
        summary: "Delete a project's key",
        description: 'The key stops working at once.',
        params: ProjectApiKeyId,
        response: {
          200: json('Deleted.', Type.Ref('ProjectApiKeyDeleteResponse'), {
            id: exampleProjectApiKey.id,
            object: 'organization.project.api_key.deleted',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id, projectId } = await findKey(deps, request);
      await inTransaction(deps.pool, async tx => {
        if (!(await store.revokeApiKey(tx, id))) throw noSuchKey(id);
        await appendAuditLog(tx, {
          type: 'api_key.deleted',
          actor: actorOf(request),
          projectId,
          resourceId: id,
        });
      });
      return { id, object: 'organization.project.api_key.deleted', deleted: true };
    },
  );
}

type KeyRequest = FastifyRequest<{ Params: ProjectApiKeyId }>;

async function findKey(deps: Deps, { params }: KeyRequest): Promise<store.ApiKey> {
  const { id: projectId } = await findProject(deps, params.project_id);
  const key = await store.findApiKey(deps.pool, projectId, params.api_key_id);
  if (!key) throw noSuchKey(params.api_key_id);
  return key;
}

function noSuchKey(id: string): ApiError {
  return new ApiError('not_found', `No such API key: ${id}`, { param: 'api_key_id' });
}

async function updateKey(
  deps: Deps,
  request: FastifyRequest<{ Params: ProjectApiKeyId; Body: UpdateProjectApiKeyBody }>,
): Promise<store.ApiKey> {
  const { scopes, expires_in_seconds: expiresInSeconds } = request.body;
  if (scopes === undefined && expiresInSeconds === undefined)
    throw new ApiError(
      'missing_required_parameter',
      "Give at least one of 'scopes' and 'expires_in_seconds'.",
    );
  const { id: projectId } = await findActiveProject(deps, request.params.project_id);
  const { id } = await findKey(deps, request);
  return inTransaction(deps.pool, async tx => {
    const key = await store.updateApiKey(tx, { projectId, id, scopes, expiresInSeconds });
    if (!key)
      throw new ApiError('invalid_value', `API key ${id} has expired; it cannot be changed.`, {
        param: 'api_key_id',
      });
    await appendAuditLog(tx, {
      type: 'api_key.updated',
      actor: actorOf(request),
      projectId,
      resourceId: id,
      details: { changes_requested: request.body },
    });
    return key;
  });
}
