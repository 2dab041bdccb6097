// /v1/fine_tuning/jobs: create, list, retrieve, cancel, pause, resume. Workers execute jobs (queue/train.ts).
import { randomInt } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { PoolClient } from 'pg';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { readJsonFormat } from '../schemas/answer-forms.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  type CreateJobBody,
  CreateJobQuery,
  exampleJob,
  JobId,
  jobToWire,
  ListJobsQuery,
  type WandbIntegrationBody,
} from '../schemas/jobs.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import { checkSchema } from '../serving/answer-grammar.ts';
import type { Caller } from '../store/api-keys.ts';
import { inTransaction } from '../store/database.ts';
import { appendEvents } from '../store/events.ts';
import { findFile } from '../store/files.ts';
import * as store from '../store/jobs.ts';
import { findMethod, findModel } from '../store/models.ts';
import { insertWandbRuns } from '../store/wandb-runs.ts';
import { methodsFor } from '../training/methods.ts';
import type { MethodName } from '../training/protocol.ts';
import { dryRunner } from './dry-runs.ts';
import { noSuchFile } from './files.ts';
import { endOf } from './generation.ts';
import { checkUsableGrader } from './graders.ts';
import { answerOnce } from './idempotency.ts';
import { unusableModel } from './models.ts';
import { checkActiveJobs, checkRoom } from './quotas.ts';

const tags = ['Fine-tuning'];
const SEED_END = 2 ** 31;

export function jobRoutes(app: FastifyInstance, deps: Deps): void {
  const dryRun = dryRunner(deps);
  app.post<{ Body: CreateJobBody; Querystring: CreateJobQuery }>(
    '/v1/fine_tuning/jobs',
    {
      config: { answersOnce: true },
      schema: {
        operationId: 'createFineTuningJob',
        tags,
        summary: 'Create a job',
        description:
          'Fine-tunes a model on a file. The job is created at once; its files are validated next, then it waits for a worker. With `dry_run=true` nothing is created: the answer says what the job would do.',
        querystring: CreateJobQuery,
        body: Type.Ref('CreateFineTuningJobRequest'),
        response: {
          200: json(
            'The job; with `dry_run=true`, what it would do.',
            Type.Union([Type.Ref('FineTuningJob'), Type.Ref('FineTuningDryRun')]),
            exampleJob,
          ),
          ...errorResponses(404, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const read = () => readNewJob(deps, request.caller, request.body);
      if (request.query.dry_run) return dryRun(await read(), endOf(app, reply));
      return answerOnce(deps, request, reply, request.body, async commit => {
        const job = await read();
        return commit(async tx => jobToWire(await createJob(deps, tx, job)));
      });
    },
  );

  app.get<{ Querystring: ListJobsQuery }>(
    '/v1/fine_tuning/jobs',
    {
      schema: {
        operationId: 'listPaginatedFineTuningJobs',
        tags,
        summary: 'List jobs',
        description: "The project's jobs, newest first.",
        querystring: ListJobsQuery,
        response: {
          200: json('A page of jobs.', Type.Ref('ListFineTuningJobsResponse'), exampleList(exampleJob)),
          ...errorResponses(),
        },
      },
      /** OpenAI's clients write `metadata=null`, which is parsed as a string. */
      preValidation: async ({ query }) => {
        if ((query.metadata as unknown) === 'null') query.metadata = null;
      },
    },
    async request => {
      const filter = { projectId: request.caller.projectId, ...request.query };
      return toWireList(await store.listJobs(deps.pool, filter), jobToWire);
    },
  );

  app.get<{ Params: JobId }>(
    '/v1/fine_tuning/jobs/:fine_tuning_job_id',
    {
      schema: {
        operationId: 'retrieveFineTuningJob',
        tags,
        summary: 'Retrieve a job',
        description: 'The current state of a job.',
        params: JobId,
        response: { 200: json('The job.', Type.Ref('FineTuningJob'), exampleJob), ...errorResponses(404) },
      },
    },
    async request => jobToWire(await findJob(deps, request)),
  );

  for (const transition of transitions) {
    app.post<{ Params: JobId }>(
      `/v1/fine_tuning/jobs/:fine_tuning_job_id/${transition.name}`,
      {
        schema: {
          operationId: `${transition.name}FineTuningJob`,
          tags,
          summary: transition.summary,
          description: transition.description,
          params: JobId,
          response: {
            200: json('The job.', Type.Ref('FineTuningJob'), {
              ...exampleJob,
              status: store.transitions[transition.name].to,
            }),
            ...errorResponses(404),
          },
        },
      },
      async request => jobToWire(await changeJob(deps, request, transition)),
    );
  }
}

/** The job in the request's path; throws a 404 when the project has none with this id. */
export async function findJob(deps: Deps, request: FastifyRequest<{ Params: JobId }>): Promise<store.Job> {
  const { fine_tuning_job_id: id } = request.params;
  const job = await store.findJob(deps.pool, request.caller.projectId, id);
  if (!job) throw noSuchJob(id);
  return job;
}

function noSuchJob(id: string): ApiError {
  return new ApiError('not_found', `Could not find fine tune: ${id}`, { param: 'fine_tuning_job_id' });
}

// ---- create

async function createJob(deps: Deps, tx: PoolClient, newJob: store.NewJob): Promise<store.Job> {
  await checkActiveJobs(tx, newJob.projectId);
  await checkRoom(tx, newJob.projectId, 1); // what it will make is not known yet
  const job = await store.insertJob(tx, newJob);
  await insertWandbRuns(tx, job.id, job.integrations?.length ?? 0);
  const validation = job.validationFile ? ` and validation file: ${job.validationFile}` : '';
  await appendEvents(tx, job.id, [
    { message: `Created fine-tuning job: ${job.id}`, once: 'created' },
    { message: `Validating training file: ${job.trainingFile}${validation}`, once: 'validating' },
  ]);
  await deps.queue.enqueueValidation(job.id, { client: tx });
  return job;
}

/** The request as a job. Throws for mistakes that the schema does not cover. */
async function readNewJob(
  deps: Deps,
  { projectId, keyId: apiKeyId }: Caller,
  body: CreateJobBody,
): Promise<store.NewJob> {
  const method = readMethod(body);
  if (method.type === 'reinforcement') await checkReinforcement(deps, projectId, method, body);
  if (body.integrations?.length && !deps.config.wandbApiKey) {
    const message = 'wandb is not configured on this server: set WANDB_API_KEY, or leave `integrations` out.';
    throw new ApiError('unsupported_value', message, { param: 'integrations' });
  }
  await checkModel(deps, projectId, body.model, method.type);
  await checkFile(deps, projectId, body.training_file, 'training_file');
  if (body.validation_file) await checkFile(deps, projectId, body.validation_file, 'validation_file');
  if (body.validation_file === body.training_file) {
    throw new ApiError('invalid_value', "'validation_file' must be another file than 'training_file'.", {
      param: 'validation_file',
    });
  }
  return {
    projectId,
    apiKeyId,
    model: body.model,
    trainingFile: body.training_file,
    validationFile: body.validation_file ?? null,
    suffix: body.suffix ?? null,
    seed: body.seed ?? randomInt(SEED_END),
    metadata: body.metadata ?? null,
    method,
    integrations: readIntegrations(body),
  };
}

function readIntegrations({ integrations }: CreateJobBody): store.NewJob['integrations'] {
  if (!integrations?.length) return null;
  return (integrations as WandbIntegrationBody[]).map(({ wandb: { project, name, entity, tags = [] } }) => ({
    project,
    name: name ?? null,
    entity: entity ?? null,
    tags,
  }));
}

/** The top-level `hyperparameters` are deprecated; those in `method` take precedence. */
function readMethod(body: CreateJobBody): store.JobMethod {
  const type = body.method?.type ?? 'supervised';
  const settings = body.method?.[type];
  const hyperparameters = { ...body.hyperparameters, ...settings?.hyperparameters };
  return { type, [type]: { ...settings, hyperparameters } } as store.JobMethod;
}

/** Throws for missing parameters of a reinforcement job, and for OpenAI's values that are not supported here. */
async function checkReinforcement(
  deps: Deps,
  projectId: string,
  { reinforcement: settings }: Extract<store.JobMethod, { type: 'reinforcement' }>,
  { validation_file: validationFile }: CreateJobBody,
): Promise<void> {
  const at = 'method.reinforcement';
  const { grader, hyperparameters, response_format: format } = settings;
  const unserved = (message: string, param: string) => new ApiError('unsupported_value', message, { param });
  if (!grader) throw missing(`${at}.grader`);
  if (grader.type === 'label_model')
    throw unserved("A 'label_model' gives no score: use it within a 'multi' grader.", `${at}.grader.type`);
  await checkUsableGrader(deps, projectId, grader, `${at}.grader`);
  const effort: string = hyperparameters.reasoning_effort ?? 'default';
  if (effort !== 'default')
    throw unserved(
      `The reasoning effort '${effort}' is not supported: only 'default'.`,
      `${at}.hyperparameters.reasoning_effort`,
    );
  const formatAt = `${at}.response_format.json_schema.schema`;
  if (format?.type === 'json_schema' && !format.json_schema?.schema) throw missing(formatAt);
  const held = readJsonFormat(
    format ? ({ type: format.type, ...format.json_schema } as never) : null,
    formatAt,
  );
  if (held) checkSchema(held);
  if (!validationFile) throw missing('validation_file');
}

const missing = (param: string) =>
  new ApiError('missing_required_parameter', `Missing required parameter: '${param}'.`, { param });

/** Throws for an unavailable model, and for one that cannot be trained by the method. */
async function checkModel(deps: Deps, projectId: string, id: string, method: MethodName): Promise<void> {
  const model = await findModel(deps.pool, projectId, id);
  if (!model) throw await unusableModel(deps, projectId, id);
  const { architecture, answers, kind } = model;
  const trainedBy = await findMethod(deps.pool, id);
  const fitting = methodsFor({ architecture, answers, isAdapter: kind === 'adapter', trainedBy });
  if (fitting === null || fitting.includes(method)) return;
  const names = fitting.map(name => `'${name}'`).join(', ');
  const made = [
    architecture,
    ...(answers === 'classes' ? ['with a head for classes or numbers'] : []),
    ...(trainedBy === null ? [] : [`trained by '${trainedBy}'`]),
  ].join(', ');
  const message = `The method '${method}' is not supported with this model: \`${id}\` (${made}) can be trained by ${names}.`;
  throw new ApiError('unsupported_value', message, { param: 'method.type' });
}

async function checkFile(deps: Deps, projectId: string, id: string, param: string): Promise<void> {
  const file = await findFile(deps.pool, projectId, id);
  if (!file) throw noSuchFile(id, param);
  if (file.purpose !== 'fine-tune') {
    throw new ApiError(
      'invalid_file',
      `Invalid file purpose: ${id} has '${file.purpose}', '${param}' needs 'fine-tune'.`,
      { param },
    );
  }
}

// ---- cancel, pause, resume

interface Transition {
  name: keyof typeof store.transitions;
  summary: string;
  description: string;
  message: string;
}

const transitions: Transition[] = [
  {
    name: 'cancel',
    summary: 'Cancel a job',
    description: 'Ends a job in any unfinished state. Its checkpoints are kept.',
    message: 'The job has been cancelled',
  },
  {
    name: 'pause',
    summary: 'Pause a job',
    description: 'Pauses a queued or running job and saves its state. The worker takes the next job.',
    message: 'The job has been paused',
  },
  {
    name: 'resume',
    summary: 'Resume a job',
    description: 'Returns a paused job to the queue; it continues where it stopped.',
    message: 'The job has been resumed, moving it to queued state',
  },
];

async function changeJob(
  deps: Deps,
  request: FastifyRequest<{ Params: JobId }>,
  transition: Transition,
): Promise<store.Job> {
  const { fine_tuning_job_id: id } = request.params;
  const { projectId } = request.caller;
  const changed = await inTransaction(deps.pool, async tx => {
    const job = await store.changeJobStatus(tx, projectId, id, transition.name);
    if (!job) return null;
    await appendEvents(tx, id, [{ message: transition.message }]);
    if (transition.name === 'resume') await deps.queue.enqueueTraining(id, { client: tx });
    return job;
  });
  return changed ?? refuseChange(await findJob(deps, request), transition);
}

function refuseChange(job: store.Job, { name }: Transition): never {
  const from = store.transitions[name].from.map(status => `'${status}'`).join(', ');
  throw new ApiError(
    'invalid_job_state',
    `Cannot ${name} a job in status '${job.status}'; it must be in one of ${from}.`,
  );
}
