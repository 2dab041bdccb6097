// /v1/models: list, retrieve, delete (fine-tuned models only).
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleModel, ModelId, modelToWire } from '../schemas/models.ts';
import { appendAuditLog } from '../store/audit-logs.ts';
import { inTransaction } from '../store/database.ts';
import * as store from '../store/models.ts';
import { actorOf } from './authentication.ts';

const tags = ['Models'];

export function modelRoutes(app: FastifyInstance, deps: Deps): void {
  app.get(
    '/v1/models',
    {
      schema: {
        operationId: 'listModels',
        tags,
        summary: 'List models',
        description: "Base models, then the project's fine-tuned models and their checkpoints.",
        response: {
          200: json('The models.', Type.Ref('ListModelsResponse'), { object: 'list', data: [exampleModel] }),
          ...errorResponses(),
        },
      },
    },
    async request => {
      const models = await store.listModels(deps.pool, request.caller.projectId);
      return { object: 'list', data: models.map(modelToWire) };
    },
  );

  app.get<{ Params: ModelId }>(
    '/v1/models/:model',
    {
      schema: {
        operationId: 'retrieveModel',
        tags,
        summary: 'Retrieve a model',
        description: 'A base model, a fine-tuned model, or a checkpoint.',
        params: ModelId,
        response: { 200: json('The model.', Type.Ref('Model'), exampleModel), ...errorResponses(404) },
      },
    },
    async request => modelToWire(await findModel(deps, request.caller.projectId, request.params.model)),
  );

  app.delete<{ Params: ModelId }>(
    '/v1/models/:model',
    {
      schema: {
        operationId: 'deleteModel',
        tags,
        summary: 'Delete a fine-tuned model',
        description: 'Base models cannot be deleted. Models trained from this one are kept.',
        params: ModelId,
        response: {
          200: json('Deleted.', Type.Ref('DeleteModelResponse'), {
            id: exampleModel.id,
            object: 'model',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { model: id } = request.params;
      const model = await findModel(deps, request.caller.projectId, id);
      if (model.kind === 'base')
        throw new ApiError('permission_denied', 'Base models cannot be deleted.', { param: 'model' });
      if (model.projectId !== request.caller.projectId)
        throw new ApiError('permission_denied', 'A model that another project shares cannot be deleted.', {
          param: 'model',
        });
      const deleted = await deleteModel(deps, request, id);
      await removeObjects(deps, deleted).catch(error => {
        deps.log.warn({ error, model: id }, 'objects of a deleted model are left');
      });
      return { id, object: 'model', deleted: true };
    },
  );
}

function deleteModel(deps: Deps, request: FastifyRequest, id: string): Promise<store.ModelRow> {
  const { projectId } = request.caller;
  return inTransaction(deps.pool, async tx => {
    const deleted = await store.markModelDeleted(tx, projectId, id);
    if (!deleted) throw noSuchModel(id);
    const actor = actorOf(request);
    await appendAuditLog(tx, { type: 'resource.deleted', actor, projectId, resourceId: id });
    return deleted;
  });
}

async function removeObjects(deps: Deps, model: store.ModelRow): Promise<void> {
  for (const key of await store.unusedModelKeys(deps.pool, model.id)) await deps.blobs.delete(key);
}

async function findModel(deps: Deps, projectId: string, id: string): Promise<store.ModelRow> {
  const model = await store.findListedModel(deps.pool, projectId, id);
  if (!model) throw noSuchModel(id);
  return model;
}

/** The error for a model that the project cannot use. */
export async function unusableModel(
  deps: Pick<Deps, 'pool'>,
  projectId: string,
  id: string,
): Promise<ApiError> {
  const listed = await store.findListedModel(deps.pool, projectId, id);
  if (!listed) return noSuchModel(id);
  const again = listed.jobId
    ? ` Train it again from the files of its job ${listed.jobId}, on a base model that is here.`
    : ' Use a base model that is here.';
  const message = `The model \`${id}\` is not available here: its history was imported, its weights were not.${again}`;
  return new ApiError('model_not_available', message, { param: 'model' });
}

export function noSuchModel(id: string): ApiError {
  return new ApiError(
    'model_not_found',
    `The model \`${id}\` does not exist or you do not have access to it.`,
    { param: 'model' },
  );
}
