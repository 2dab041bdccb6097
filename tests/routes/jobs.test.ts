import { toFile } from 'openai';
import type { FineTuningJob } from 'openai/resources/fine-tuning';
import supertest from 'supertest';
import { beforeAll, describe, expect, test } from 'vitest';
import { insertModel, upsertBaseModel } from '../../src/store/models.ts';
import { BASE_MODEL, startServer, useServer } from '../support/server.ts';

const server = useServer();
let trainingFile: string;
let validationFile: string;
let notes: string;

beforeAll(async () => {
  trainingFile = await upload('train.jsonl', 'fine-tune');
  validationFile = await upload('valid.jsonl', 'fine-tune');
  notes = await upload('notes.txt', 'user_data');
});

async function upload(
  name: string,
  purpose: 'fine-tune' | 'user_data',
  client = server.client,
): Promise<string> {
  return (await client.files.create({ file: await toFile(Buffer.from('{}\n'), name), purpose })).id;
}

const GRADER = {
  type: 'string_check',
  name: 'same',
  input: '{{sample.output_text}}',
  reference: '{{item.answer}}',
  operation: 'eq',
};

const create = (extra: object = {}, client = server.client) =>
  client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: trainingFile, ...extra });

const setStatus = (id: string, status: string) =>
  server.database.pool.query('update jobs set status = $2 where id = $1', [id, status]);

describe('create', () => {
  test('answers with a whole job, writes its first events and enqueues its validation', async () => {
    const job = await create({
      validation_file: validationFile,
      suffix: 'tickets',
      seed: 7,
      metadata: { team: 'a' },
    });
    expect(job).toEqual({
      object: 'fine_tuning.job',
      id: expect.stringMatching(/^ftjob-[A-Za-z0-9]{24}$/),
      created_at: expect.any(Number),
      finished_at: null,
      model: BASE_MODEL,
      fine_tuned_model: null,
      organization_id: expect.stringMatching(/^org-/),
      status: 'validating_files',
      training_file: trainingFile,
      validation_file: validationFile,
      result_files: [],
      trained_tokens: null,
      hyperparameters: { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' },
      method: {
        type: 'supervised',
        supervised: {
          hyperparameters: { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' },
        },
      },
      seed: 7,
      error: null,
      estimated_finish: null,
      integrations: [],
      metadata: { team: 'a' },
      user_provided_suffix: 'tickets',
      usage_metrics: null,
      shared_with_openai: false,
    });
    expect(await server.client.fineTuning.jobs.retrieve(job.id)).toEqual(job);
    const events = await server.client.fineTuning.jobs.listEvents(job.id);
    expect(events.data.map(event => event.message)).toEqual([
      `Validating training file: ${trainingFile} and validation file: ${validationFile}`,
      `Created fine-tuning job: ${job.id}`,
    ]);
    const { rows } = await server.database.pool.query(
      `select name from pgboss.job where data->>'jobId' = $1`,
      [job.id],
    );
    expect(rows).toEqual([{ name: 'validate-files' }]);
  });

  test('a job is not there when it cannot be enqueued', async () => {
    const broken = await startServer({
      deps: deps => ({
        queue: { ...deps.queue, enqueueValidation: () => Promise.reject(new Error('no queue')) },
      }),
    });
    try {
      const file = await upload('a.jsonl', 'fine-tune', broken.client);
      const request = broken.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: file });
      await expect(request).rejects.toMatchObject({ status: 500, type: 'server_error' });
      expect((await broken.client.fineTuning.jobs.list()).data).toEqual([]);
    } finally {
      await broken.close();
    }
  });

  test('draws a seed, and a different one each time', async () => {
    const [a, b] = await Promise.all([create(), create()]);
    expect(a.seed).toBeGreaterThanOrEqual(0);
    expect(a.seed).not.toBe(b.seed);
  });

  test("takes hyperparameters from both of OpenAI's places, and our own", async () => {
    const old = await create({ hyperparameters: { n_epochs: 2 } });
    expect(old.hyperparameters).toEqual({
      n_epochs: 2,
      batch_size: 'auto',
      learning_rate_multiplier: 'auto',
    });
    const hyperparameters = {
      n_epochs: 4,
      learning_rate_multiplier: 0.5,
      rank: 4,
      alpha: 8,
      target_modules: ['q_proj'],
      adapter: 'lora',
    };
    const job = await create({ method: { type: 'supervised', supervised: { hyperparameters } } });
    expect(job.hyperparameters).toEqual({ n_epochs: 4, batch_size: 'auto', learning_rate_multiplier: 0.5 });
    expect(job.method!.supervised!.hyperparameters).toEqual({ batch_size: 'auto', ...hyperparameters });
  });

  test.each([
    ['classification', { labels: ['b', 'a'], class_weights: { a: 2 }, hyperparameters: { rank: 4 } }],
    ['classification', { class_weights: 'balanced' }],
    ['regression', {}],
  ])("a method of Anneal's own stands on the job as it was asked for: %s", async (type, settings) => {
    const job = await create({ method: { type, [type]: settings } });
    const auto = { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' };
    const { hyperparameters, ...others } = settings as { hyperparameters?: object };
    expect(job.method).toEqual({
      type,
      [type]: { ...others, hyperparameters: { ...auto, ...hyperparameters } },
    });
  });

  test('reinforcement stands on the job with its grader', async () => {
    const settings = {
      grader: GRADER,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'object' } } },
    };
    const hyperparameters = { compute_multiplier: 0.5, eval_interval: 'auto', reasoning_effort: 'default' };
    const job = await create({
      validation_file: validationFile,
      method: { type: 'reinforcement', reinforcement: { ...settings, hyperparameters } },
    });
    const auto = { n_epochs: 'auto', batch_size: 'auto', learning_rate_multiplier: 'auto' };
    expect(job.method).toEqual({
      type: 'reinforcement',
      reinforcement: { ...settings, hyperparameters: { ...auto, ...hyperparameters } },
    });
    expect(job.hyperparameters).toEqual(auto);
  });

  test('ignores the methods that its type does not name', async () => {
    const job = await create({
      method: {
        type: 'supervised',
        dpo: { hyperparameters: { beta: 1 } },
        reinforcement: { grader: GRADER, hyperparameters: { eval_samples: 'auto' } },
      },
    });
    expect(job.method).toEqual({ type: 'supervised', supervised: { hyperparameters: expect.anything() } });
  });

  const h = (hyperparameters: object) => ({
    method: { type: 'supervised', supervised: { hyperparameters } },
  });
  const at = (name: string) => `method.supervised.hyperparameters.${name}`;
  const wrong: [string, object, string, string, RegExp][] = [
    [
      'no model',
      { model: undefined },
      'model',
      'missing_required_parameter',
      /^400 Missing required parameter: 'model'.$/,
    ],
    [
      'no file',
      { training_file: undefined },
      'training_file',
      'missing_required_parameter',
      /Missing required/,
    ],
    [
      'a model that is a number',
      { model: 5 },
      'model',
      'invalid_type',
      /expected a string, but got an integer instead/,
    ],
    [
      'an unknown parameter',
      { trainig_file: 'x' },
      'trainig_file',
      'unknown_parameter',
      /Unknown parameter: 'trainig_file'/,
    ],
    ['an unknown hyperparameter', h({ lora_rank: 4 }), at('lora_rank'), 'unknown_parameter', /lora_rank/],
    [
      '51 epochs',
      h({ n_epochs: 51 }),
      at('n_epochs'),
      'integer_above_max_value',
      /Expected a value <= 50, but got 51/,
    ],
    [
      '0 epochs',
      { hyperparameters: { n_epochs: 0 } },
      'hyperparameters.n_epochs',
      'integer_below_min_value',
      />= 1/,
    ],
    [
      'half an epoch',
      h({ n_epochs: 1.5 }),
      at('n_epochs'),
      'invalid_type',
      /'auto' or an integer, but got a decimal/,
    ],
    [
      'epochs as text',
      h({ n_epochs: '3' }),
      at('n_epochs'),
      'invalid_type',
      /'auto' or an integer, but got a string/,
    ],
    [
      'a multiplier of 0',
      h({ learning_rate_multiplier: 0 }),
      at('learning_rate_multiplier'),
      'decimal_below_min_value',
      /> 0/,
    ],
    ['dropout 1', h({ dropout: 1 }), at('dropout'), 'decimal_above_max_value', /<= 0.9, but got 1/],
    [
      'no target modules',
      h({ target_modules: [] }),
      at('target_modules'),
      'array_below_min_length',
      /minimum length 1/,
    ],
    [
      'another schedule',
      h({ schedule: 'sine' }),
      at('schedule'),
      'invalid_value',
      /'sine'. Supported values are: 'cosine', 'linear', 'constant'/,
    ],
    ['a seed below 0', { seed: -1 }, 'seed', 'integer_below_min_value', />= 0/],
    [
      'a long suffix',
      { suffix: 'x'.repeat(65) },
      'suffix',
      'string_above_max_length',
      /maximum length 64, but got a string with length 65/,
    ],
    ['an empty suffix', { suffix: '' }, 'suffix', 'string_below_min_length', /minimum length 1/],
    ['metadata that is a number', { metadata: { a: 1 } }, 'metadata.a', 'invalid_type', /expected a string/],
    [
      '17 pairs',
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) },
      'metadata',
      'object_above_max_properties',
      /at most 16/,
    ],
    ['a long value', { metadata: { a: 'x'.repeat(513) } }, 'metadata.a', 'string_above_max_length', /512/],
    [
      'a long key',
      { metadata: { ['k'.repeat(65)]: 'x' } },
      'metadata',
      'string_above_max_length',
      /key in 'metadata': string too long. Expected a string with maximum length 64/,
    ],
    [
      'a number under a key with a line break',
      { metadata: { 'a\nb': 1 } },
      'metadata.a\nb',
      'invalid_type',
      /expected a string/,
    ],
    [
      'reinforcement without a grader',
      { method: { type: 'reinforcement' } },
      'method.reinforcement.grader',
      'missing_required_parameter',
      /grader/,
    ],
    [
      'reinforcement without a validation file',
      { method: { type: 'reinforcement', reinforcement: { grader: GRADER } }, validation_file: null },
      'validation_file',
      'missing_required_parameter',
      /validation_file/,
    ],
    [
      'a grader with a variable that there is not',
      { method: { type: 'reinforcement', reinforcement: { grader: { ...GRADER, input: '{{answer}}' } } } },
      'method.reinforcement.grader.input',
      'invalid_value',
      /Invalid template variable '\{\{answer\}\}'/,
    ],
    [
      'a grader without what it compares',
      { method: { type: 'reinforcement', reinforcement: { grader: { ...GRADER, reference: undefined } } } },
      'method.reinforcement.grader.reference',
      'missing_required_parameter',
      /reference/,
    ],
    [
      'a grader that gives labels',
      {
        method: {
          type: 'reinforcement',
          reinforcement: {
            grader: {
              type: 'label_model',
              name: 'x',
              model: 'llama-tiny',
              input: [{ role: 'user', content: 'x' }],
              labels: ['a'],
              passing_labels: ['a'],
            },
          },
        },
      },
      'method.reinforcement.grader.type',
      'unsupported_value',
      /'multi'/,
    ],
    [
      'a grader that asks a model that there is not',
      {
        method: {
          type: 'reinforcement',
          reinforcement: {
            grader: {
              type: 'score_model',
              name: 'x',
              model: 'nobody',
              input: [{ role: 'user', content: 'x' }],
            },
          },
        },
      },
      'method.reinforcement.grader.model',
      'model_not_found',
      /nobody/,
    ],
    [
      'an effort of reasoning',
      {
        method: {
          type: 'reinforcement',
          reinforcement: { grader: GRADER, hyperparameters: { reasoning_effort: 'high' } },
        },
      },
      'method.reinforcement.hyperparameters.reasoning_effort',
      'unsupported_value',
      /only 'default'/,
    ],
    [
      'a multiplier of compute that is too large',
      {
        method: {
          type: 'reinforcement',
          reinforcement: { grader: GRADER, hyperparameters: { compute_multiplier: 11 } },
        },
      },
      'method.reinforcement.hyperparameters.compute_multiplier',
      'decimal_above_max_value',
      /compute_multiplier/,
    ],
    [
      'a whole model trained by reinforcement',
      {
        method: {
          type: 'reinforcement',
          reinforcement: { grader: GRADER, hyperparameters: { adapter: 'full' } },
        },
      },
      'method.reinforcement.hyperparameters.adapter',
      'unknown_parameter',
      /Unknown parameter/,
    ],
    [
      'a format without its schema',
      {
        method: {
          type: 'reinforcement',
          reinforcement: { grader: GRADER, response_format: { type: 'json_schema' } },
        },
      },
      'method.reinforcement.response_format.json_schema.schema',
      'missing_required_parameter',
      /schema/,
    ],
    [
      'a schema that answers cannot be held to',
      {
        validation_file: 'file-other',
        method: {
          type: 'reinforcement',
          reinforcement: {
            grader: GRADER,
            response_format: {
              type: 'json_schema',
              json_schema: {
                name: 'x',
                strict: true,
                schema: {
                  type: 'object',
                  properties: { n: { type: 'number', multipleOf: 0.3 } },
                  required: ['n'],
                  additionalProperties: false,
                },
              },
            },
          },
        },
      },
      'method.reinforcement.response_format.json_schema.schema.properties.n.multipleOf',
      'invalid_value',
      /Invalid schema/,
    ],
    [
      'a schema that allows no value',
      {
        method: {
          type: 'reinforcement',
          reinforcement: {
            grader: GRADER,
            response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { enum: [] } } },
          },
        },
      },
      'method.reinforcement.response_format.json_schema.schema.enum',
      'invalid_value',
      /Invalid schema/,
    ],
    [
      'a beta that is too large',
      { method: { type: 'dpo', dpo: { hyperparameters: { beta: 3 } } } },
      'method.dpo.hyperparameters.beta',
      'decimal_above_max_value',
      /beta/,
    ],
    [
      'a label twice',
      { method: { type: 'classification', classification: { labels: ['a', 'a'] } } },
      'method.classification.labels',
      'invalid_value',
      /no two of its entries may be the same/,
    ],
    [
      'a class weight of nothing',
      { method: { type: 'classification', classification: { class_weights: { a: 0 } } } },
      'method.classification.class_weights.a',
      'decimal_below_min_value',
      /Expected a value > 0/,
    ],
    [
      'labels for a regression',
      { method: { type: 'regression', regression: { labels: ['a'] } } },
      'method.regression.labels',
      'unknown_parameter',
      /Unknown parameter/,
    ],
    ['an unknown method', { method: { type: 'magic' } }, 'method.type', 'invalid_value', /'magic'/],
    [
      'wandb',
      { integrations: [{ type: 'wandb', wandb: { project: 'x' } }] },
      'integrations',
      'unsupported_value',
      /not configured/,
    ],
    [
      'an unknown model',
      { model: 'gpt-9' },
      'model',
      'model_not_found',
      /^404 The model `gpt-9` does not exist or you do not have access to it.$/,
    ],
  ];
  test.each(wrong)('refuses %s', async (_, extra, param, code, message) => {
    await expect(create(extra)).rejects.toMatchObject({
      type: 'invalid_request_error',
      param,
      code,
      message: expect.stringMatching(message),
    });
  });

  test.each([
    ['bert', 'supervised', "'classification', 'regression', 'embedding'"],
    ['t5', 'dpo', "'supervised', 'classification', 'regression'"],
    ['marian', 'embedding', "'supervised', 'classification', 'regression'"],
  ])(
    'refuses a method that does not fit the model, in a dry run too: %s and %s',
    async (architecture, type, fitting) => {
      const model = `a-${architecture}`;
      await upsertBaseModel(server.deps.pool, { id: model, architecture, ownedBy: 'test', files: [] });
      const body = { model, training_file: trainingFile, method: { type } };
      const refusal = {
        status: 400,
        type: 'invalid_request_error',
        code: 'unsupported_value',
        param: 'method.type',
        message: `400 The method '${type}' is not supported with this model: \`${model}\` (${architecture}) can be trained by ${fitting}.`,
      };
      await expect(create(body)).rejects.toMatchObject(refusal);
      const dryRun = server.client.post('/fine_tuning/jobs', { query: { dry_run: true }, body });
      await expect(dryRun).rejects.toMatchObject(refusal);
    },
  );

  test('refuses a base model that is a classifier where tokens are needed, and models on it', async () => {
    const [base, model] = ['a-classifier', 'ft:a-classifier:org::vectors'];
    const row = { id: base, architecture: 'llama', answers: 'classes', ownedBy: 'test' } as const;
    await upsertBaseModel(server.deps.pool, { ...row, files: [] });
    const { id: jobId } = await create({ model: base, method: { type: 'embedding' } });
    const adapter = {
      projectId: server.projectId,
      jobId,
      kind: 'adapter',
      step: null,
      baseModel: base,
    } as const;
    await insertModel(server.deps.pool, { ...row, ...adapter, id: model, files: [] });
    const refusal = (made: string) => ({
      code: 'unsupported_value',
      param: 'method.type',
      message: expect.stringContaining(
        `(${made}) can be trained by 'classification', 'regression', 'embedding'.`,
      ),
    });
    const head = 'llama, with a head for classes or numbers';
    await expect(create({ model: base })).rejects.toMatchObject(refusal(head));
    await expect(create({ model })).rejects.toMatchObject(refusal(`${head}, trained by 'embedding'`));
  });

  test('refuses to go on from a classifier where tokens are needed', async () => {
    const { id: jobId } = await create({ method: { type: 'classification' } });
    const [id, { projectId }] = ['ft:test-base:org::classify', server];
    const row = {
      id,
      projectId,
      jobId,
      kind: 'adapter',
      architecture: 'llama',
      baseModel: BASE_MODEL,
    } as const;
    await insertModel(server.deps.pool, { ...row, step: null, ownedBy: 'test', files: [] });
    await expect(create({ model: id })).rejects.toMatchObject({
      param: 'method.type',
      message: expect.stringContaining(
        "(llama, trained by 'classification') can be trained by 'classification', 'regression'.",
      ),
    });
    expect(await create({ model: id, method: { type: 'regression' } })).toMatchObject({ model: id });
  });

  test('refuses a file that is unknown, of another purpose, or given twice', async () => {
    const unknown = {
      status: 404,
      param: 'training_file',
      message: expect.stringContaining('No such File object: file-x'),
    };
    await expect(create({ training_file: 'file-x' })).rejects.toMatchObject(unknown);
    await expect(create({ validation_file: 'file-x' })).rejects.toMatchObject({
      status: 404,
      param: 'validation_file',
    });
    await expect(create({ training_file: notes })).rejects.toMatchObject({
      status: 400,
      param: 'training_file',
      code: 'invalid_file',
    });
    await expect(create({ validation_file: trainingFile })).rejects.toMatchObject({
      status: 400,
      param: 'validation_file',
    });
  });

  test("refuses another project's file", async () => {
    await expect(create({}, server.otherClient)).rejects.toMatchObject({
      status: 404,
      param: 'training_file',
    });
  });

  test('takes null for what is optional, as the Python client sends it', async () => {
    const nothing = { validation_file: null, suffix: null, seed: null, metadata: null, integrations: null };
    expect(await create(nothing)).toMatchObject({
      validation_file: null,
      user_provided_suffix: null,
      metadata: null,
    });
  });

  test.each([
    ['no body', ''],
    ['an empty object', '{}'],
  ])('%s names what is missing', async (_, body) => {
    const response = await supertest(server.url)
      .post('/v1/fine_tuning/jobs')
      .auth(server.key, { type: 'bearer' })
      .set('content-type', 'application/json')
      .send(body);
    expect(response.status).toBe(400);
    expect(response.body.error).toMatchObject({ code: 'missing_required_parameter', param: 'model' });
  });
});

describe('list', () => {
  test('newest first, in pages, only of the own project', async () => {
    const own = await startServer();
    try {
      const file = await upload('a.jsonl', 'fine-tune', own.client);
      const ids: string[] = [];
      for (let i = 0; i < 5; i++) {
        ids.push((await own.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: file })).id);
      }
      const seen: string[] = [];
      for await (const job of own.client.fineTuning.jobs.list({ limit: 2 })) seen.push(job.id);
      expect(seen).toEqual(ids.toReversed());
      expect((await own.client.fineTuning.jobs.list({ after: 'after' })).data).toEqual([]);
      expect((await own.otherClient.fineTuning.jobs.list()).data).toEqual([]);
    } finally {
      await own.close();
    }
  });

  test('jobs that were created at the same instant are all seen, once', async () => {
    const jobs = await Promise.all(
      Array.from({ length: 7 }, () => create({ metadata: { same: 'instant' } })),
    );
    await server.database.pool.query(
      `update jobs set created_at = '2026-01-01' where metadata = '{"same": "instant"}'`,
    );
    const seen: string[] = [];
    for await (const job of server.client.fineTuning.jobs.list({ limit: 2, metadata: { same: 'instant' } }))
      seen.push(job.id);
    expect(seen.toSorted()).toEqual(jobs.map(job => job.id).toSorted());
  });

  test('filters by metadata, in the encoding that both clients use', async () => {
    const both = await create({ metadata: { list: 'x', color: 'red & blue' } });
    const one = await create({ metadata: { list: 'x' } });
    const ids = async (metadata: Record<string, string>) =>
      (await server.client.fineTuning.jobs.list({ metadata })).data.map(job => job.id);
    expect(await ids({ list: 'x' })).toEqual([one.id, both.id]);
    expect(await ids({ list: 'x', color: 'red & blue' })).toEqual([both.id]);
    expect(await ids({ list: 'y' })).toEqual([]);
    const wire = await supertest(server.url)
      .get('/v1/fine_tuning/jobs?limit=1&metadata%5Bcolor%5D=red+%26+blue')
      .auth(server.key, { type: 'bearer' });
    expect(wire.body.data.map((job: FineTuningJob) => job.id)).toEqual([both.id]);
  });

  test('metadata=null gives the jobs without metadata', async () => {
    const bare = await create();
    const tagged = await create({ metadata: { a: 'b' } });
    const found = (await server.client.fineTuning.jobs.list({ metadata: null, limit: 100 })).data.map(
      job => job.id,
    );
    const wire = await supertest(server.url)
      .get('/v1/fine_tuning/jobs?metadata=null&limit=100')
      .auth(server.key, { type: 'bearer' });
    const onWire = wire.body.data.map((job: FineTuningJob) => job.id);
    expect(onWire).toContain(bare.id);
    expect(onWire).not.toContain(tagged.id);
    expect(found).toContain(bare.id);
  });
});

describe('cancel, pause, resume', () => {
  const from: Record<'cancel' | 'pause' | 'resume', string[]> = {
    cancel: ['validating_files', 'queued', 'running', 'paused'],
    pause: ['queued', 'running'],
    resume: ['paused'],
  };
  const to = { cancel: 'cancelled', pause: 'paused', resume: 'queued' };
  const all = ['validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'];
  const cases = Object.entries(from).flatMap(([action, allowed]) =>
    all.map(status => [action as keyof typeof from, status, allowed.includes(status)] as const),
  );

  test.each(cases)('%s of a job that is %s: %s', async (action, status, allowed) => {
    const job = await create();
    await setStatus(job.id, status);
    const request = server.client.fineTuning.jobs[action](job.id);
    if (allowed) {
      const changed = await request;
      expect(changed.status).toBe(to[action]);
      expect(changed.finished_at !== null).toBe(action === 'cancel');
    } else {
      await expect(request).rejects.toMatchObject({
        status: 400,
        type: 'invalid_request_error',
        message: expect.stringContaining(`in status '${status}'`),
      });
      expect((await server.client.fineTuning.jobs.retrieve(job.id)).status).toBe(status);
    }
  });

  test('of ten cancels at once one succeeds', async () => {
    const job = await create();
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => server.client.fineTuning.jobs.cancel(job.id)),
    );
    expect(results.filter(result => result.status === 'fulfilled')).toHaveLength(1);
    const events = await server.client.fineTuning.jobs.listEvents(job.id);
    expect(events.data.filter(event => /cancelled/.test(event.message))).toHaveLength(1);
  });

  test('tells the runners, and resuming enqueues the training', async () => {
    const heard: string[] = [];
    const listener = await server.database.pool.connect();
    await listener.query('listen anneal_control');
    listener.on('notification', ({ payload }) => heard.push(payload!));
    const job = await create();
    await setStatus(job.id, 'running');
    await server.client.fineTuning.jobs.pause(job.id);
    await server.client.fineTuning.jobs.resume(job.id);
    await listener.query('select 1');
    listener.release(true);
    expect(heard).toEqual([job.id, job.id]);
    const { rows } = await server.database.pool.query(
      `select name from pgboss.job where data->>'jobId' = $1 order by created_on`,
      [job.id],
    );
    expect(rows.map(row => row.name)).toContain('train');
  });

  test.each([
    ['without content type', undefined],
    ['as the Python client sends it', 'application/json'],
  ])('needs no body, %s', async (_, contentType) => {
    const job = await create();
    const request = supertest(server.url)
      .post(`/v1/fine_tuning/jobs/${job.id}/cancel`)
      .auth(server.key, { type: 'bearer' });
    if (contentType) request.set('content-type', contentType);
    const response = await request;
    expect([response.status, response.body.status]).toEqual([200, 'cancelled']);
  });

  test("another project's job, and one that is not there, are unknown", async () => {
    const job = await create();
    const { fineTuning } = server.otherClient;
    for (const action of ['retrieve', 'cancel', 'pause', 'resume', 'listEvents'] as const) {
      await expect(fineTuning.jobs[action](job.id)).rejects.toMatchObject({ status: 404 });
    }
    await expect(fineTuning.jobs.checkpoints.list(job.id)).rejects.toMatchObject({ status: 404 });
    await expect(server.client.fineTuning.jobs.retrieve('ftjob-none')).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining('Could not find fine tune: ftjob-none'),
    });
  });
});

test('what the trainer resolved is shown in both places, and a failure as its error', async () => {
  const job = await create({ method: { type: 'supervised', supervised: { hyperparameters: { rank: 4 } } } });
  const resolved = {
    n_epochs: 3,
    batch_size: 2,
    learning_rate_multiplier: 1,
    rank: 4,
    alpha: 8,
    learning_rate: 0.0002,
  };
  const error = {
    code: 'invalid_n_examples',
    message: 'Training file has 7 example(s), but must have at least 10 examples',
    param: 'training_file',
  };
  await server.database.pool.query(
    `update jobs set status = 'failed', finished_at = now(), hyperparameters = $2, error = $3, trained_tokens = 5000000000 where id = $1`,
    [job.id, resolved, error],
  );
  const seen = await server.client.fineTuning.jobs.retrieve(job.id);
  expect(seen).toMatchObject({
    status: 'failed',
    error,
    trained_tokens: 5_000_000_000,
    finished_at: expect.any(Number),
  });
  expect(seen.hyperparameters).toEqual({ n_epochs: 3, batch_size: 2, learning_rate_multiplier: 1 });
  expect(seen.method!.supervised!.hyperparameters).toEqual(resolved);
});
