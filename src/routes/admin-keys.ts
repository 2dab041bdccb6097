// /v1/organization/admin_api_keys: create, list, retrieve, delete. The first key is created by the CLI or by ANNEAL_ADMIN_KEY.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newSecretKey } from '../ids.ts';
import {
  AdminKeyId,
  adminKeyToWire,
  type CreateAdminApiKeyBody,
  exampleAdminKey,
  ListAdminApiKeysQuery,
} from '../schemas/admin-keys.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import * as store from '../store/admin-keys.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction } from '../store/database.ts';
import { actorOf } from './authentication.ts';
import { administration } from './openapi.ts';

export function adminKeyRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: CreateAdminApiKeyBody }>(
    '/v1/organization/admin_api_keys',
    {
      schema: {
        ...administration,
        operationId: 'createAdminApiKey',
        summary: 'Create an admin key',
        description: 'The key is shown only in this answer.',
        body: Type.Ref('CreateAdminApiKeyRequest'),
        response: {
          200: json('The key.', Type.Ref('AdminApiKeyCreateResponse'), {
            ...exampleAdminKey,
            value: 'sk-admin-...',
          }),
          ...errorResponses(),
        },
      },
    },
    async request => {
      const { name, expires_in_seconds: expiresInSeconds = null } = request.body;
      const value = newSecretKey('admin');
      return inTransaction(deps.pool, async tx => {
        const key = (await store.insertAdminKey(tx, { name, secret: value, expiresInSeconds }))!;
        await appendAuditLog(tx, {
          type: 'api_key.created',
          actor: actorOf(request),
          resourceId: key.id,
          details: { data: { scopes: [] } },
        });
        return { ...adminKeyToWire(key), value };
      });
    },
  );

  app.get<{ Querystring: ListAdminApiKeysQuery }>(
    '/v1/organization/admin_api_keys',
    {
      schema: {
        ...administration,
        operationId: 'listAdminApiKeys',
        summary: 'List admin keys',
        description: 'Without deleted keys.',
        querystring: ListAdminApiKeysQuery,
        response: {
          200: json('A page of keys.', Type.Ref('AdminApiKeyListResponse'), exampleList(exampleAdminKey)),
          ...errorResponses(),
        },
      },
    },
    async request => toWireList(await store.listAdminKeys(deps.pool, request.query), adminKeyToWire),
  );

  app.get<{ Params: AdminKeyId }>(
    '/v1/organization/admin_api_keys/:key_id',
    {
      schema: {
        ...administration,
        operationId: 'retrieveAdminApiKey',
        summary: 'Retrieve an admin key',
        description: 'Metadata of a key, without the key itself.',
        params: AdminKeyId,
        response: { 200: json('The key.', Type.Ref('AdminApiKey'), exampleAdminKey), ...errorResponses(404) },
      },
    },
    async request => {
      const key = await store.findAdminKey(deps.pool, request.params.key_id);
      if (!key) throw noSuchKey(request.params.key_id);
      return adminKeyToWire(key);
    },
  );

  app.delete<{ Params: AdminKeyId }>(
    '/v1/organization/admin_api_keys/:key_id',
    {
      schema: {
        ...administration,
        operationId: 'deleteAdminApiKey',
        summary: 'Delete an admin key',
        description: 'The key stops working at once, even if it is the one used for this request.',
        params: AdminKeyId,
        response: {
          200: json('Deleted.', Type.Ref('AdminApiKeyDeleteResponse'), {
            id: exampleAdminKey.id,
            object: 'organization.admin_api_key.deleted',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { key_id: id } = request.params;
      await inTransaction(deps.pool, async tx => {
        if (!(await store.revokeAdminKey(tx, id))) throw noSuchKey(id);
        await appendAuditLog(tx, { type: 'api_key.deleted', actor: actorOf(request), resourceId: id });
      });
      return { id, object: 'organization.admin_api_key.deleted', deleted: true };
    },
  );
}

function noSuchKey(id: string): ApiError {
  return new ApiError('not_found', `No such admin key: ${id}`, { param: 'key_id' });
}
