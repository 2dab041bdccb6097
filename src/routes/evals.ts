// /v1/evals: create, list, retrieve, update, delete. Runs are in eval-runs.ts.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { compileItemSchema } from '../evaluation/item-schema.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  type CreateEvalBody,
  EvalId,
  evalToWire,
  exampleEval,
  ListEvalsQuery,
  type UpdateEvalBody,
} from '../schemas/evals.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import * as store from '../store/evals.ts';
import { checkUsableGrader } from './graders.ts';

const tags = ['Evals'];
const UNNAMED = 'Untitled evaluation';

export function evalRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: CreateEvalBody }>(
    '/v1/evals',
    {
      schema: {
        operationId: 'createEval',
        tags,
        summary: 'Create an eval',
        description: 'Defines data and criteria; its runs test models or data.',
        body: Type.Ref('CreateEvalRequest'),
        response: {
          201: json('The eval.', Type.Ref('Eval'), exampleEval),
          ...errorResponses(404),
        },
      },
    },
    async ({ body, caller }, reply) => {
      const { projectId } = caller;
      const { data_source_config: dataSourceConfig, testing_criteria: testingCriteria } = body;
      if (dataSourceConfig.type === 'custom') compileItemSchema(dataSourceConfig.item_schema);
      for (const [i, criterion] of testingCriteria.entries())
        await checkUsableGrader(deps, projectId, criterion, `testing_criteria[${i}]`);
      const made = { projectId, name: body.name || UNNAMED, dataSourceConfig, testingCriteria };
      reply.status(201);
      return evalToWire(await store.insertEval(deps.pool, { ...made, metadata: body.metadata ?? null }));
    },
  );

  app.get<{ Querystring: ListEvalsQuery }>(
    '/v1/evals',
    {
      schema: {
        operationId: 'listEvals',
        tags,
        summary: 'List evals',
        description: "The project's evals, oldest first.",
        querystring: ListEvalsQuery,
        response: {
          200: json('A page of evals.', Type.Ref('ListEvalsResponse'), exampleList(exampleEval)),
          ...errorResponses(),
        },
      },
    },
    async ({ query, caller }) => {
      const { order_by: orderBy, ...page } = query;
      return toWireList(
        await store.listEvals(deps.pool, { projectId: caller.projectId, orderBy, ...page }),
        evalToWire,
      );
    },
  );

  app.get<{ Params: EvalId }>(
    '/v1/evals/:eval_id',
    {
      schema: {
        operationId: 'getEval',
        tags,
        summary: 'Retrieve an eval',
        description: 'The eval.',
        params: EvalId,
        response: { 200: json('The eval.', Type.Ref('Eval'), exampleEval), ...errorResponses(404) },
      },
    },
    async request => evalToWire(await findEval(deps, request)),
  );

  app.post<{ Params: EvalId; Body: UpdateEvalBody }>(
    '/v1/evals/:eval_id',
    {
      schema: {
        operationId: 'updateEval',
        tags,
        summary: 'Update an eval',
        description:
          'Changes name and metadata. Data source and criteria cannot change, so that runs stay comparable.',
        params: EvalId,
        body: Type.Ref('UpdateEvalRequest'),
        response: {
          200: json('The eval.', Type.Ref('Eval'), exampleEval),
          ...errorResponses(404),
        },
      },
    },
    async ({ params: { eval_id: id }, body, caller }) => {
      const changed = await store.updateEval(deps.pool, caller.projectId, id, body);
      if (!changed) throw noSuchEval(id);
      return evalToWire(changed);
    },
  );

  app.delete<{ Params: EvalId }>(
    '/v1/evals/:eval_id',
    {
      schema: {
        operationId: 'deleteEval',
        tags,
        summary: 'Delete an eval',
        description: 'Deletes the eval with its runs and their results.',
        params: EvalId,
        response: {
          200: json('Deleted.', Type.Ref('DeleteEvalResponse'), {
            object: 'eval.deleted',
            deleted: true,
            eval_id: exampleEval.id,
          }),
          ...errorResponses(404),
        },
      },
    },
    async ({ params: { eval_id: id }, caller }) => {
      if (!(await store.deleteEval(deps.pool, caller.projectId, id))) throw noSuchEval(id);
      return { object: 'eval.deleted', deleted: true, eval_id: id };
    },
  );
}

/** The eval in the request's path; throws a 404 when the project has none with this id. */
export async function findEval(deps: Deps, request: FastifyRequest<{ Params: EvalId }>): Promise<store.Eval> {
  const { eval_id: id } = request.params;
  const found = await store.findEval(deps.pool, request.caller.projectId, id);
  if (!found) throw noSuchEval(id);
  return found;
}

function noSuchEval(id: string): ApiError {
  return new ApiError('not_found', `No such Eval object: ${id}`, { param: 'eval_id' });
}
