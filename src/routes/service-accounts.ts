// /v1/organization/projects/{id}/service_accounts: create with a key, list, retrieve, update, delete; create further keys.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { PoolClient } from 'pg';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newSecretKey } from '../ids.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import { ProjectId } from '../schemas/projects.ts';
import {
  type CreateServiceAccountApiKeyBody,
  type CreateServiceAccountBody,
  exampleNewKey,
  exampleServiceAccount,
  ListProjectServiceAccountsQuery,
  newKeyToWire,
  ServiceAccountId,
  serviceAccountToWire,
  type UpdateServiceAccountBody,
} from '../schemas/service-accounts.ts';
import { insertApiKey, type NewApiKey } from '../store/api-keys.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction } from '../store/database.ts';
import * as store from '../store/service-accounts.ts';
import { actorOf } from './authentication.ts';
import { administration } from './openapi.ts';
import { findActiveProject, findProject } from './projects.ts';

export function serviceAccountRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Params: ProjectId; Body: CreateServiceAccountBody }>(
    '/v1/organization/projects/:project_id/service_accounts',
    {
      schema: {
        ...administration,
        operationId: 'createProjectServiceAccount',
        summary: 'Create a service account',
        description: 'Includes a key, which is shown only in this answer.',
        params: ProjectId,
        body: Type.Ref('CreateProjectServiceAccountRequest'),
        response: {
          200: json('The account and its key.', Type.Ref('ProjectServiceAccountCreateResponse'), {
            ...exampleServiceAccount,
            api_key: exampleNewKey,
          }),
          ...errorResponses(404),
        },
      },
    },
    request => createAccount(deps, request),
  );

  app.get<{ Params: ProjectId; Querystring: ListProjectServiceAccountsQuery }>(
    '/v1/organization/projects/:project_id/service_accounts',
    {
      schema: {
        ...administration,
        operationId: 'listProjectServiceAccounts',
        summary: 'List service accounts',
        description: 'Service accounts of a project, oldest first.',
        params: ProjectId,
        querystring: ListProjectServiceAccountsQuery,
        response: {
          200: json(
            'A page of service accounts.',
            Type.Ref('ProjectServiceAccountListResponse'),
            exampleList(exampleServiceAccount),
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id: projectId } = await findProject(deps, request.params.project_id);
      const page = await store.listServiceAccounts(deps.pool, { projectId, ...request.query });
      return toWireList(page, serviceAccountToWire);
    },
  );

  const path = '/v1/organization/projects/:project_id/service_accounts/:service_account_id';
  const answer = {
    200: json('The account.', Type.Ref('ProjectServiceAccount'), exampleServiceAccount),
  };

  app.get<{ Params: ServiceAccountId }>(
    path,
    {
      schema: {
        ...administration,
        operationId: 'retrieveProjectServiceAccount',
        summary: 'Retrieve a service account',
        description: 'Its keys are listed with those of the project.',
        params: ServiceAccountId,
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => serviceAccountToWire(await findAccount(deps, request)),
  );

  app.post<{ Params: ServiceAccountId; Body: UpdateServiceAccountBody }>(
    path,
    {
      schema: {
        ...administration,
        operationId: 'updateProjectServiceAccount',
        summary: 'Update a service account',
        description: 'Changes name or role.',
        params: ServiceAccountId,
        body: Type.Ref('UpdateProjectServiceAccountRequest'),
        response: { ...answer, ...errorResponses(404) },
      },
    },
    async request => serviceAccountToWire(await updateAccount(deps, request)),
  );

  app.delete<{ Params: ServiceAccountId }>(
    path,
    {
      schema: {
        ...administration,
        operationId: 'deleteProjectServiceAccount',
        summary: 'Delete a service account',
        description: 'Its keys stop working at once.',
        params: ServiceAccountId,
        response: {
          200: json('Deleted.', Type.Ref('ProjectServiceAccountDeleteResponse'), {
            id: exampleServiceAccount.id,
            object: 'organization.project.service_account.deleted',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id } = await deleteAccount(deps, request);
      return { id, object: 'organization.project.service_account.deleted', deleted: true };
    },
  );

  app.post<{ Params: ServiceAccountId; Body: CreateServiceAccountApiKeyBody }>(
    `${path}/api_keys`,
    {
      schema: {
        ...administration,
        operationId: 'createProjectServiceAccountApiKey',
        summary: 'Create a key for a service account',
        description: 'The key is shown only in this answer.',
        params: ServiceAccountId,
        body: Type.Ref('CreateServiceAccountApiKeyRequest'),
        response: {
          200: json('The key.', Type.Ref('ProjectServiceAccountApiKey'), exampleNewKey),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id: projectId } = await findActiveProject(deps, request.params.project_id);
      const { service_account_id: id } = request.params;
      return inTransaction(deps.pool, async tx => {
        const account = await store.holdServiceAccount(tx, projectId, id);
        if (!account) throw noSuchAccount(id);
        const {
          name = account.name,
          scopes = [],
          expires_in_seconds: expiresInSeconds = null,
        } = request.body;
        return createKey(tx, request, { projectId, name, scopes, expiresInSeconds, serviceAccountId: id });
      });
    },
  );
}

type AccountRequest = FastifyRequest<{ Params: ServiceAccountId }>;

async function findAccount(deps: Deps, { params }: AccountRequest): Promise<store.ServiceAccount> {
  const { project_id: projectId, service_account_id: id } = params;
  await findProject(deps, projectId);
  const account = await store.findServiceAccount(deps.pool, projectId, id);
  if (!account) throw noSuchAccount(id);
  return account;
}

function noSuchAccount(id: string): ApiError {
  return new ApiError('not_found', `No such service account: ${id}`, { param: 'service_account_id' });
}

async function createAccount(
  deps: Deps,
  request: FastifyRequest<{ Params: ProjectId; Body: CreateServiceAccountBody }>,
) {
  const {
    name,
    create_service_account_only: alone,
    expires_in_seconds: expiresInSeconds = null,
  } = request.body;
  if (alone && expiresInSeconds !== null)
    throw new ApiError(
      'invalid_value',
      "'expires_in_seconds' needs a key: it cannot be set with 'create_service_account_only'.",
      {
        param: 'expires_in_seconds',
      },
    );
  const { id: projectId } = await findActiveProject(deps, request.params.project_id);
  return inTransaction(deps.pool, async tx => {
    const account = await store.insertServiceAccount(tx, {
      projectId,
      name,
      role: alone ? 'none' : 'member',
    });
    await appendAuditLog(tx, {
      type: 'service_account.created',
      actor: actorOf(request),
      projectId,
      resourceId: account.id,
      details: { data: { role: account.role } },
    });
    const key = { projectId, name, expiresInSeconds, serviceAccountId: account.id };
    const apiKey = alone ? null : await createKey(tx, request, key);
    return { ...serviceAccountToWire(account), api_key: apiKey };
  });
}

async function createKey(tx: PoolClient, request: FastifyRequest, key: Omit<NewApiKey, 'secret'>) {
  const secret = newSecretKey('svcacct');
  const made = (await insertApiKey(tx, { ...key, secret }))!;
  await appendAuditLog(tx, {
    type: 'api_key.created',
    actor: actorOf(request),
    projectId: key.projectId,
    resourceId: made.id,
    details: { data: { scopes: made.scopes } },
  });
  return newKeyToWire(made, secret);
}

async function updateAccount(
  deps: Deps,
  request: FastifyRequest<{ Params: ServiceAccountId; Body: UpdateServiceAccountBody }>,
): Promise<store.ServiceAccount> {
  const { id: projectId } = await findActiveProject(deps, request.params.project_id);
  const { id } = await findAccount(deps, request);
  return inTransaction(deps.pool, async tx => {
    const account = await store.updateServiceAccount(tx, { projectId, id, ...request.body });
    if (!account) throw noSuchAccount(id);
    await appendAuditLog(tx, {
      type: 'service_account.updated',
      actor: actorOf(request),
      projectId,
      resourceId: id,
      details: { changes_requested: request.body },
    });
    return account;
  });
}

async function deleteAccount(deps: Deps, request: AccountRequest): Promise<store.ServiceAccount> {
  const account = await findAccount(deps, request);
  const { id, projectId } = account;
  await inTransaction(deps.pool, async tx => {
    const keys = await store.deleteServiceAccount(tx, projectId, id);
    if (!keys) throw noSuchAccount(id);
    const act = { actor: actorOf(request), projectId };
    await appendAuditLog(tx, { type: 'service_account.deleted', ...act, resourceId: id });
    for (const key of keys) await appendAuditLog(tx, { type: 'api_key.deleted', ...act, resourceId: key });
  });
  return account;
}
