// /v1/fine_tuning/alpha/graders: run a grader on one sample, or validate it. Nothing is stored.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { canEmbed, checkModel, modelTools } from '../evaluation/ask-model.ts';
import { checkGrader, metricsOf, modelsOf } from '../evaluation/graders/check.ts';
import { grade } from '../evaluation/graders/grade.ts';
import { type Grader, sampleOf } from '../evaluation/graders/grader.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  exampleGrader,
  gradeToWire,
  type RunGraderBody,
  type ValidateGraderBody,
  withName,
} from '../schemas/graders.ts';
import { asEnded, endOf } from './generation.ts';

const tags = ['Graders'];

export function graderRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: RunGraderBody }>(
    '/v1/fine_tuning/alpha/graders/run',
    {
      schema: {
        operationId: 'runGrader',
        tags,
        summary: 'Run a grader',
        description:
          'Scores one sample. If the grader fails, `metadata.errors` says why and the reward is 0.',
        body: Type.Ref('RunGraderRequest'),
        response: {
          200: json('Result of the grader.', Type.Ref('RunGraderResponse'), exampleRun),
          ...errorResponses(404, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { model_sample, item = {} } = request.body;
      const grader = withName(request.body.grader);
      const { projectId, keyId: apiKeyId } = request.caller;
      await checkUsableGrader(deps, projectId, grader, 'grader');
      const signal = endOf(app, reply);
      const tools = { ...modelTools(deps, { projectId, apiKeyId }), python: deps.python, owner: null };
      const began = performance.now();
      const result = await grade(grader, { item, sample: sampleOf(model_sample) }, tools, signal).catch(
        error => {
          throw asEnded(error, signal);
        },
      );
      return gradeToWire(grader, result, (performance.now() - began) / 1000);
    },
  );

  app.post<{ Body: ValidateGraderBody }>(
    '/v1/fine_tuning/alpha/graders/validate',
    {
      schema: {
        operationId: 'validateGrader',
        tags,
        summary: 'Validate a grader',
        description: "Checks a grader's fields, variables, formula and models. Python is not run.",
        body: Type.Ref('ValidateGraderRequest'),
        response: {
          200: json('The grader.', Type.Ref('ValidateGraderResponse'), { grader: exampleGrader }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const grader = withName(request.body.grader);
      await checkUsableGrader(deps, request.caller.projectId, grader, 'grader');
      return { grader };
    },
  );
}

/** Throws for mistakes that the schema does not cover, and for graders that this server cannot run. */
export async function checkUsableGrader(
  deps: Deps,
  projectId: string,
  grader: Grader,
  at: string,
): Promise<void> {
  checkGrader(grader, at);
  for (const { model, param } of modelsOf(grader, at))
    await checkModel(deps, projectId, { model, param, as: 'judge' });
  if (!metricsOf(grader).includes('cosine') || canEmbed(deps.config)) return;
  const message =
    "The metric 'cosine' needs a model for embeddings: name one in ANNEAL_GRADER_EMBEDDING_MODEL.";
  throw new ApiError('unsupported_value', message, { param: `${at}.evaluation_metric` });
}

const exampleRun = {
  reward: 1,
  metadata: {
    name: 'same label',
    type: 'string_check',
    errors: {
      formula_parse_error: false,
      sample_parse_error: false,
      truncated_observation_error: false,
      unresponsive_reward_error: false,
      invalid_variable_error: false,
      other_error: false,
      python_grader_server_error: false,
      python_grader_runtime_error: false,
      model_grader_server_error: false,
      model_grader_refusal_error: false,
      model_grader_parse_error: false,
      python_grader_server_error_type: null,
      python_grader_runtime_error_details: null,
      model_grader_server_error_details: null,
    },
    execution_time: 0.0002,
    scores: {},
    token_usage: null,
    sampled_model_name: null,
  },
  sub_rewards: {},
  model_grader_token_usage_per_model: {},
};
