// /v1/evals/{eval_id}/runs: create, list, retrieve, cancel, delete; and their output items. Workers execute them (queue/evaluate.ts).
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { checkModel } from '../evaluation/ask-model.ts';
import { checkMessages } from '../evaluation/graders/check.ts';
import type { InputMessage } from '../evaluation/graders/grader.ts';
import { isPath } from '../evaluation/graders/template.ts';
import { compileItemSchema } from '../evaluation/item-schema.ts';
import { readSampling } from '../evaluation/run-sampling.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  type CreateEvalRunBody,
  exampleOutputItem,
  exampleRun,
  ListItemsQuery,
  ListRunsQuery,
  OutputItemId,
  outputItemToWire,
  RunId,
  runToWire,
} from '../schemas/eval-runs.ts';
import { EvalId } from '../schemas/evals.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import { inTransaction } from '../store/database.ts';
import * as store from '../store/eval-runs.ts';
import type { Eval } from '../store/evals.ts';
import { findFile } from '../store/files.ts';
import { findEval } from './evals.ts';
import { noSuchFile } from './files.ts';

const tags = ['Evals'];
const RUNS = '/v1/evals/:eval_id/runs';

type RunRequest = FastifyRequest<{ Params: RunId }>;

export function evalRunRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Params: EvalId; Body: CreateEvalRunBody }>(
    RUNS,
    {
      schema: {
        operationId: 'createEvalRun',
        tags,
        summary: 'Create a run',
        description: 'A worker lets the model answer every item and grades the answers.',
        params: EvalId,
        body: Type.Ref('CreateEvalRunRequest'),
        response: { 201: json('The run.', Type.Ref('EvalRun'), exampleRun), ...errorResponses(404) },
      },
    },
    async (request, reply) => {
      const { name, metadata = null, data_source: dataSource } = request.body;
      const of = await findEval(deps, request);
      await checkDataSource(deps, of, dataSource);
      const { keyId: apiKeyId } = request.caller;
      const run = await inTransaction(deps.pool, async tx => {
        const made = await store.insertRun(tx, of, { apiKeyId, name: name ?? '', metadata, dataSource });
        await deps.queue.enqueueEvaluation(made.id, { client: tx });
        return made;
      });
      reply.status(201);
      return runToWire(run, originOf(request));
    },
  );

  app.get<{ Params: EvalId; Querystring: ListRunsQuery }>(
    RUNS,
    {
      schema: {
        operationId: 'getEvalRuns',
        tags,
        summary: 'List runs',
        description: 'Runs of an eval, oldest first.',
        params: EvalId,
        querystring: ListRunsQuery,
        response: {
          200: json('A page of runs.', Type.Ref('ListEvalRunsResponse'), exampleList(exampleRun)),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id: evalId } = await findEval(deps, request);
      const page = await store.listRuns(deps.pool, { evalId, ...request.query });
      return toWireList(page, run => runToWire(run, originOf(request)));
    },
  );

  app.get<{ Params: RunId }>(
    `${RUNS}/:run_id`,
    {
      schema: {
        operationId: 'getEvalRun',
        tags,
        summary: 'Retrieve a run',
        description: 'The current state of a run: items done, passed and failed.',
        params: RunId,
        response: { 200: json('The run.', Type.Ref('EvalRun'), exampleRun), ...errorResponses(404) },
      },
    },
    async request => runToWire(await findRun(deps, request), originOf(request)),
  );

  for (const [path, operationId] of [
    [`${RUNS}/:run_id`, 'cancelEvalRun'],
    [`${RUNS}/:run_id/cancel`, 'cancelEvalRunAtCancel'],
  ] as const) {
    app.post<{ Params: RunId }>(
      path,
      {
        schema: {
          operationId,
          tags,
          summary: 'Cancel a run',
          description: "Cancels an unfinished run; finished items are kept. OpenAI's clients use both paths.",
          params: RunId,
          response: {
            200: json('The run.', Type.Ref('EvalRun'), { ...exampleRun, status: 'canceled' }),
            ...errorResponses(404),
          },
        },
      },
      async request => runToWire(await cancelRun(deps, request), originOf(request)),
    );
  }

  app.delete<{ Params: RunId }>(
    `${RUNS}/:run_id`,
    {
      schema: {
        operationId: 'deleteEvalRun',
        tags,
        summary: 'Delete a run',
        description: 'Deletes the run with its results, and ends it if it is running.',
        params: RunId,
        response: {
          200: json('Deleted.', Type.Ref('DeleteEvalRunResponse'), {
            object: 'eval.run.deleted',
            deleted: true,
            run_id: exampleRun.id,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const key = keyOf(request);
      if (!(await store.deleteRun(deps.pool, key))) throw noSuchRun(key.runId);
      return { object: 'eval.run.deleted', deleted: true, run_id: key.runId };
    },
  );

  itemRoutes(app, deps);
}

function itemRoutes(app: FastifyInstance, deps: Deps): void {
  const PATH = `${RUNS}/:run_id/output_items`;
  app.get<{ Params: RunId; Querystring: ListItemsQuery }>(
    PATH,
    {
      schema: {
        operationId: 'getEvalRunOutputItems',
        tags,
        summary: 'List output items',
        description: 'Finished items of a run, in the order of the data.',
        params: RunId,
        querystring: ListItemsQuery,
        response: {
          200: json(
            'A page of items.',
            Type.Ref('ListEvalRunOutputItemsResponse'),
            exampleList(exampleOutputItem),
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id: runId, evalId } = await findRun(deps, request);
      const page = await store.listOutputItems(deps.pool, { runId, ...request.query });
      return toWireList(page, item => outputItemToWire(item, evalId));
    },
  );

  app.get<{ Params: OutputItemId }>(
    `${PATH}/:output_item_id`,
    {
      schema: {
        operationId: 'getEvalRunOutputItem',
        tags,
        summary: 'Retrieve an output item',
        description: 'The answer and the result of every criterion.',
        params: OutputItemId,
        response: {
          200: json('The item.', Type.Ref('EvalRunOutputItem'), exampleOutputItem),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { output_item_id: id } = request.params;
      const run = await findRun(deps, request);
      const item = await store.findOutputItem(deps.pool, run.id, id);
      if (!item) throw new ApiError('not_found', `No such output item: ${id}`, { param: 'output_item_id' });
      return outputItemToWire(item, run.evalId);
    },
  );
}

const originOf = ({ protocol, host }: FastifyRequest): string => `${protocol}://${host}`;

function keyOf({ params, caller }: RunRequest): store.RunKey {
  return { projectId: caller.projectId, evalId: params.eval_id, runId: params.run_id };
}

async function findRun(deps: Deps, request: RunRequest): Promise<store.EvalRun> {
  const key = keyOf(request);
  const run = await store.findRun(deps.pool, key);
  if (!run) throw noSuchRun(key.runId);
  return run;
}

function noSuchRun(id: string): ApiError {
  return new ApiError('not_found', `No such EvalRun object: ${id}`, { param: 'run_id' });
}

async function cancelRun(deps: Deps, request: RunRequest): Promise<store.EvalRun> {
  const canceled = await inTransaction(deps.pool, tx => store.cancelRun(tx, keyOf(request)));
  if (canceled) return canceled;
  const { status } = await findRun(deps, request);
  throw new ApiError(
    'invalid_run_state',
    `Cannot cancel a run in status '${status}'; it must be in one of 'queued', 'in_progress'.`,
  );
}

// ---- validation of a new run

/** Throws for mistakes that the schema does not cover. */
async function checkDataSource(deps: Deps, of: Eval, dataSource: store.RunDataSource): Promise<void> {
  const { projectId } = of;
  const { source } = dataSource;
  if (source.type === 'file_content') checkContent(of, source);
  if (source.type === 'file_id' && !(await findFile(deps.pool, projectId, source.id!)))
    throw noSuchFile(source.id!, 'data_source.source.id');
  if (dataSource.type === 'jsonl') return;
  checkAsked(dataSource);
  readSampling(dataSource);
  const { model } = dataSource;
  if (model) await checkModel(deps, projectId, { model, param: 'data_source.model' });
}

function checkContent({ dataSourceConfig }: Eval, { content }: store.RunSource): void {
  if (dataSourceConfig.type !== 'custom') return;
  const wrong = compileItemSchema(dataSourceConfig.item_schema)(content!.map(({ item }) => item));
  if (wrong === null) return;
  const param = `data_source.source.content[${wrong.index}].item`;
  throw new ApiError('invalid_value', `Invalid '${param}': ${wrong.reason}.`, { param });
}

const STORED: readonly store.RunSource['type'][] = ['stored_completions', 'responses'];

/** Model and messages are required together, except for stored answers. */
function checkAsked({ source, model, input_messages: input }: store.RunDataSource): void {
  const stored = STORED.includes(source.type) && !model && !input;
  if (!model && !stored) throw missing('data_source.model');
  if (!input && !stored) throw missing('data_source.input_messages');
  if (input?.type === 'template')
    checkMessages(input.template as InputMessage[], 'data_source.input_messages.template', ['item']);
  else if (input && !isPath(input.item_reference)) {
    const param = 'data_source.input_messages.item_reference';
    throw new ApiError('invalid_value', `Invalid '${param}': expected a path such as 'item.input'.`, {
      param,
    });
  }
}

function missing(param: string): ApiError {
  return new ApiError('missing_required_parameter', `Missing required parameter: '${param}'.`, { param });
}
