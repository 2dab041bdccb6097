// /v1/batches: create, list, retrieve, cancel. Workers run them (queue/run-batches.ts).
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { batchLimits } from '../queue/batch-input.ts';
import {
  BatchId,
  batchEndpoints,
  batchToWire,
  type CreateBatchBody,
  exampleBatch,
  ListBatchesQuery,
} from '../schemas/batches.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import * as store from '../store/batches.ts';
import { findFile } from '../store/files.ts';
import { noSuchFile } from './files.ts';

const tags = ['Batches'];
const WINDOW_SECONDS = 24 * 3600;
const OUTPUT_SECONDS = 30 * 24 * 3600;

export function batchRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: CreateBatchBody }>(
    '/v1/batches',
    {
      schema: {
        operationId: 'createBatch',
        tags,
        summary: 'Create a batch',
        description:
          'Workers answer the requests of a file at low priority. Each line is `{"custom_id", "method": "POST", "url", "body"}`.',
        body: Type.Ref('CreateBatchRequest'),
        response: { 200: json('The batch.', Type.Ref('Batch'), exampleBatch), ...errorResponses(404) },
      },
    },
    async request => {
      const { body, caller } = request;
      checkEndpoint(app, body.endpoint);
      await checkInputFile(deps, caller.projectId, body.input_file_id);
      const batch = await store.insertBatch(deps.pool, {
        projectId: caller.projectId,
        apiKeyId: caller.keyId,
        endpoint: body.endpoint,
        inputFileId: body.input_file_id,
        completionWindow: body.completion_window,
        metadata: body.metadata ?? null,
        outputExpiresAfterSeconds: body.output_expires_after?.seconds ?? OUTPUT_SECONDS,
        lifetimeSeconds: WINDOW_SECONDS,
      });
      return batchToWire(batch);
    },
  );

  app.get<{ Querystring: ListBatchesQuery }>(
    '/v1/batches',
    {
      schema: {
        operationId: 'listBatches',
        tags,
        summary: 'List batches',
        description: "The project's batches, newest first.",
        querystring: ListBatchesQuery,
        response: {
          200: json('A page of batches.', Type.Ref('ListBatchesResponse'), exampleList(exampleBatch)),
          ...errorResponses(),
        },
      },
    },
    async ({ caller, query }) =>
      toWireList(await store.listBatches(deps.pool, caller.projectId, query), batchToWire),
  );

  app.get<{ Params: BatchId }>(
    '/v1/batches/:batch_id',
    {
      schema: {
        operationId: 'retrieveBatch',
        tags,
        summary: 'Retrieve a batch',
        description: 'The current state of a batch.',
        params: BatchId,
        response: { 200: json('The batch.', Type.Ref('Batch'), exampleBatch), ...errorResponses(404) },
      },
    },
    async request => batchToWire(await findBatch(deps, request)),
  );

  app.post<{ Params: BatchId }>(
    '/v1/batches/:batch_id/cancel',
    {
      schema: {
        operationId: 'cancelBatch',
        tags,
        summary: 'Cancel a batch',
        description: 'Cancels the batch; answers so far become its output.',
        params: BatchId,
        response: {
          200: json('The batch.', Type.Ref('Batch'), { ...exampleBatch, status: 'cancelling' }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { batch_id: id } = request.params;
      const cancelled = await store.cancelBatch(deps.pool, request.caller.projectId, id);
      if (cancelled) return batchToWire(cancelled);
      throw notCancellable(await findBatch(deps, request));
    },
  );
}

async function findBatch(deps: Deps, request: FastifyRequest<{ Params: BatchId }>): Promise<store.Batch> {
  const { batch_id: id } = request.params;
  const batch = await store.findBatch(deps.pool, request.caller.projectId, id);
  if (!batch) throw new ApiError('not_found', `No such Batch object: ${id}`, { param: 'batch_id' });
  return batch;
}

function notCancellable({ id, status }: store.Batch): ApiError {
  const from = store.CANCELLABLE.map(one => `'${one}'`).join(', ');
  return new ApiError(
    'invalid_batch_state',
    `Cannot cancel batch ${id} in status '${status}'; it must be in one of ${from}.`,
  );
}

function checkEndpoint(app: FastifyInstance, endpoint: string): void {
  const isServed = (url: string) => app.hasRoute({ method: 'POST', url });
  if (isServed(endpoint)) return;
  const served = batchEndpoints.filter(isServed).map(url => `'${url}'`);
  throw new ApiError(
    'invalid_value',
    `Invalid value: '${endpoint}'. Supported values are: ${served.join(', ')}.`,
    { param: 'endpoint' },
  );
}

async function checkInputFile(deps: Deps, projectId: string, id: string): Promise<void> {
  const file = await findFile(deps.pool, projectId, id);
  if (!file) throw noSuchFile(id, 'input_file_id');
  const wrong = (message: string) => new ApiError('invalid_file', message, { param: 'input_file_id' });
  if (file.purpose !== 'batch')
    throw wrong(`Invalid file purpose: ${id} has '${file.purpose}', 'input_file_id' needs 'batch'.`);
  if (file.bytes > batchLimits.bytes)
    throw wrong(`${id} has ${file.bytes} bytes; a batch takes at most ${batchLimits.bytes}.`);
}
