// /v1/fine_tuning/checkpoints/{model}/permissions: lets other projects use a fine-tuned model. Needs an admin key.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import {
  CheckpointName,
  type CreatePermissionsBody,
  examplePermission,
  ListPermissionsQuery,
  PermissionId,
  permissionToWire,
} from '../schemas/permissions.ts';
import { type AuditType, appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction, type Queryable } from '../store/database.ts';
import { findModelOfAnyProject, type ModelRow } from '../store/models.ts';
import * as store from '../store/permissions.ts';
import { findProject } from '../store/projects.ts';
import { actorOf } from './authentication.ts';
import { noSuchModel } from './models.ts';
import { administration } from './openapi.ts';

const PATH = '/v1/fine_tuning/checkpoints/:fine_tuned_model_checkpoint/permissions';
const common = { ...administration, tags: ['Fine-tuning'] };

export function permissionRoutes(app: FastifyInstance, deps: Deps): void {
  const page = {
    200: json(
      'The permissions.',
      Type.Ref('ListFineTuningCheckpointPermissionResponse'),
      exampleList(examplePermission),
    ),
  };

  app.post<{ Params: CheckpointName; Body: CreatePermissionsBody }>(
    PATH,
    {
      schema: {
        ...common,
        operationId: 'createFineTuningCheckpointPermission',
        summary: 'Share a model',
        description: 'The projects can list, use and train from the model, but not delete it.',
        params: CheckpointName,
        body: Type.Ref('CreateFineTuningCheckpointPermissionRequest'),
        response: { ...page, ...errorResponses(404) },
      },
    },
    async request => {
      const rows = await inTransaction(deps.pool, tx => permit(tx, request));
      return toWireList({ rows, hasMore: false }, permissionToWire);
    },
  );

  app.get<{ Params: CheckpointName; Querystring: ListPermissionsQuery }>(
    PATH,
    {
      schema: {
        ...common,
        operationId: 'listFineTuningCheckpointPermissions',
        summary: 'List permissions of a model',
        description: 'Newest first by default.',
        params: CheckpointName,
        querystring: ListPermissionsQuery,
        response: { ...page, ...errorResponses(404) },
      },
    },
    async request => {
      const model = await findFineTuned(deps.pool, request.params.fine_tuned_model_checkpoint);
      const { project_id: projectId, order, ...rest } = request.query;
      const filter = { ...rest, projectId, order: order === 'ascending' ? 'asc' : 'desc' } as const;
      return toWireList(await store.listPermissions(deps.pool, model.id, filter), permissionToWire);
    },
  );

  app.delete<{ Params: PermissionId }>(
    `${PATH}/:permission_id`,
    {
      schema: {
        ...common,
        operationId: 'deleteFineTuningCheckpointPermission',
        summary: 'Stop sharing a model',
        description: 'The project can no longer use the model. Jobs created with it continue.',
        params: PermissionId,
        response: {
          200: json('Deleted.', Type.Ref('DeleteFineTuningCheckpointPermissionResponse'), {
            id: examplePermission.id,
            object: 'checkpoint.permission',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { fine_tuned_model_checkpoint: modelId, permission_id: id } = request.params;
      await inTransaction(deps.pool, async tx => {
        const deleted = await store.deletePermission(tx, modelId, id);
        if (!deleted)
          throw new ApiError('not_found', `No such permission: ${id}`, { param: 'permission_id' });
        await note(tx, request, 'checkpoint.permission.deleted', deleted);
      });
      return { id, object: 'checkpoint.permission', deleted: true };
    },
  );
}

async function permit(
  tx: Queryable,
  request: FastifyRequest<{ Params: CheckpointName; Body: CreatePermissionsBody }>,
): Promise<store.Permission[]> {
  const { project_ids: projectIds } = request.body;
  const model = await findFineTuned(tx, request.params.fine_tuned_model_checkpoint);
  for (const id of projectIds) await checkProject(tx, id);
  const permissions = await store.insertPermissions(tx, model.id, projectIds);
  for (const permission of permissions) {
    if (permission.isNew) await note(tx, request, 'checkpoint.permission.created', permission);
  }
  return permissions;
}

async function checkProject(db: Queryable, id: string): Promise<void> {
  if (await findProject(db, id)) return;
  throw new ApiError('not_found', `No such project: ${id}`, { param: 'project_ids' });
}

function note(
  tx: Queryable,
  request: FastifyRequest,
  type: AuditType,
  permission: store.Permission,
): Promise<void> {
  return appendAuditLog(tx, {
    type,
    actor: actorOf(request),
    projectId: permission.projectId,
    resourceId: permission.id,
    details: { data: { project_id: permission.projectId, fine_tuned_model_checkpoint: permission.modelId } },
  });
}

/** A fine-tuned model of any project. */
async function findFineTuned(db: Queryable, id: string): Promise<ModelRow> {
  const model = await findModelOfAnyProject(db, id);
  if (!model) throw noSuchModel(id);
  if (model.kind !== 'base') return model;
  const message = `${id} is a base model: every project may use it already.`;
  throw new ApiError('invalid_value', message, { param: 'fine_tuned_model_checkpoint' });
}
