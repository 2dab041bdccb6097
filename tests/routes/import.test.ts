// `anneal import openai` from one server to another: the first stands for the account that is left.
import OpenAI from 'openai';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ImportProgress, importOpenai } from '../../src/importing/import-openai.ts';
import { readJob } from '../../src/importing/openai-jobs.ts';
import { appendEvents } from '../../src/store/events.ts';
import { insertModel, upsertBaseModel } from '../../src/store/models.ts';
import { insertCheckpoint, writeFailure, writeSuccess } from '../../src/store/runs.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const account = useServer();
const server = useServer();
const FINE_TUNED = 'ft:gpt-4o-mini-2024-07-18:acme:support:a1B2c3D4';
const SOURCE_BASE = 'gpt-4o-mini-2024-07-18';
let succeeded = '';
let failed = '';
let running = '';
let trainingFile = '';
let resultFile = '';

const { stringify } = JSON;
const lines = `${stringify({ messages: [{ role: 'user', content: 'ä' }] })}\n`.repeat(3);

beforeAll(async () => {
  const { pool } = account.database;
  await upsertBaseModel(pool, { id: SOURCE_BASE, architecture: 'llama', ownedBy: 'system', files: [] });
  const upload = async (text: string, name: string, purpose: 'fine-tune' | 'batch' = 'fine-tune') =>
    (await account.client.files.create({ file: new File([text], name), purpose })).id;
  trainingFile = await upload(lines, 'train.jsonl');
  resultFile = await upload('step,train_loss\n1,0.5\n', 'results.jsonl');
  await pool.query(`update files set purpose = 'fine-tune-results', filename = 'results.csv' where id = $1`, [
    resultFile,
  ]);
  await upload('{}\n', 'batch.jsonl', 'batch');
  const create = async (extra: object = {}) =>
    (
      await account.client.fineTuning.jobs.create({
        model: SOURCE_BASE,
        training_file: trainingFile,
        ...extra,
      })
    ).id;
  succeeded = await create({ suffix: 'support', seed: 7, metadata: { team: 'support' } });
  failed = await create({ hyperparameters: { n_epochs: 2 } });
  running = await create();
  await appendEvents(
    pool,
    succeeded,
    Array.from({ length: 250 }, (_, index) => ({
      message: `Step ${index + 1}/250: training loss=0.50`,
      type: 'metrics' as const,
      data: { step: index + 1, train_loss: 0.5 - index / 1000, total_steps: 250 },
    })),
  );
  for (const step of [100, 250]) {
    const model = `${FINE_TUNED}:ckpt-step-${step}`;
    await insertModel(pool, {
      id: model,
      projectId: account.projectId,
      kind: 'adapter',
      architecture: 'llama',
      baseModel: SOURCE_BASE,
      jobId: succeeded,
      step,
      ownedBy: 'acme',
      files: [],
    });
    const metrics = { step, train_loss: 0.4, full_valid_loss: 0.6 } as never;
    await insertCheckpoint(pool, succeeded, { kind: 'model', step, model, metrics, files: [] });
  }
  await writeSuccess(pool, succeeded, {
    fineTunedModel: FINE_TUNED,
    trainedTokens: 1234,
    manifest: {},
    resultFiles: [resultFile],
  });
  await writeFailure(pool, failed, {
    code: 'invalid_training_file',
    message: 'bad line',
    param: 'training_file',
  });
  await pool.query(`update files set created_at = created_at - interval '400 days'`);
  await pool.query(`update jobs set created_at = created_at - interval '300 days'`);
});

beforeEach(async () => {
  await server.database.pool.query('delete from jobs');
  await server.database.pool.query(`delete from models where kind = 'elsewhere'`);
  await server.database.pool.query('delete from files');
});

const clientOf = (fetchOf: typeof fetch = fetch) =>
  new OpenAI({ apiKey: account.key, baseURL: `${account.url}/v1`, fetch: fetchOf, maxRetries: 0 });

async function runImport(client = clientOf(), projectId = server.projectId): Promise<ImportProgress[]> {
  const reported: ImportProgress[] = [];
  const { pool, blobs } = server.deps;
  await importOpenai({ client, pool, blobs, projectId, report: progress => reported.push(progress) });
  return reported;
}

const outcomes = (reported: ImportProgress[]) =>
  reported.map(({ kind, outcome }) => `${kind} ${outcome.type}`);

test('files come with their ids, names, times and bytes', async () => {
  await runImport();
  // their times have whole seconds here, so those of one second may change places
  const listed = async ({ client }: typeof server) =>
    (await client.files.list()).data.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const theirs = await listed(account);
  expect(await listed(server)).toEqual(theirs);
  expect(theirs.map(({ purpose }) => purpose).toSorted()).toEqual([
    'batch',
    'fine-tune',
    'fine-tune-results',
  ]);
  expect(await (await server.client.files.content(trainingFile)).text()).toBe(lines);
  expect(await (await server.client.files.content(resultFile)).text()).toBe('step,train_loss\n1,0.5\n');
});

test('ended jobs come with what they were asked and what became of them', async () => {
  await runImport();
  for (const id of [succeeded, failed]) {
    const theirs = await account.client.fineTuning.jobs.retrieve(id);
    const ours = await server.client.fineTuning.jobs.retrieve(id);
    expect(ours).toEqual({ ...theirs, imported_from: `${account.url}/v1` });
  }
  expect(await server.client.fineTuning.jobs.retrieve(failed)).toMatchObject({
    status: 'failed',
    error: { code: 'invalid_training_file' },
    hyperparameters: { n_epochs: 2 },
  });
  await expect(server.client.fineTuning.jobs.retrieve(running)).rejects.toMatchObject({ status: 404 });
});

test('all events come in their order, checkpoints and metrics, too', async () => {
  await runImport();
  const events = async ({ client }: typeof server) => {
    const all = [];
    for await (const event of client.fineTuning.jobs.listEvents(succeeded, { limit: 100 })) all.push(event);
    return all;
  };
  const ours = await events(server);
  expect(ours.length).toBeGreaterThan(250);
  expect(ours).toEqual(await events(account));
  const checkpoints = async ({ client }: typeof server) =>
    (await client.fineTuning.jobs.checkpoints.list(succeeded)).data;
  expect(await checkpoints(server)).toEqual(await checkpoints(account));
  const metrics = (await server.client.get(`/fine_tuning/jobs/${succeeded}/metrics?limit=1000`)) as {
    data: { step_number: number; metrics: { train_loss: number } }[];
  };
  expect(metrics.data).toHaveLength(250);
  expect(metrics.data[249]).toMatchObject({ step_number: 250, metrics: { train_loss: 0.251 } });
});

describe('models', () => {
  test('are listed, and say that they are not here', async () => {
    await runImport();
    const { data } = await server.client.models.list();
    const ids = data
      .filter(model => (model as { available?: boolean }).available === false)
      .map(({ id }) => id);
    expect(ids.toSorted()).toEqual(
      [SOURCE_BASE, FINE_TUNED, `${FINE_TUNED}:ckpt-step-100`, `${FINE_TUNED}:ckpt-step-250`].toSorted(),
    );
    expect(await server.client.models.retrieve(FINE_TUNED)).toMatchObject({ available: false });
    const unavailable = { status: 400, code: 'model_not_available', param: 'model' };
    const asked = server.client.chat.completions.create({
      model: FINE_TUNED,
      messages: [{ role: 'user', content: 'x' }],
    });
    await expect(asked).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringContaining(`Train it again from the files of its job ${succeeded}`),
    });
    const trained = (model: string) =>
      server.client.fineTuning.jobs.create({ model, training_file: trainingFile });
    await expect(trained(FINE_TUNED)).rejects.toMatchObject(unavailable);
    await expect(trained(SOURCE_BASE)).rejects.toMatchObject(unavailable);
    expect((await trained(BASE_MODEL)).status).toBe('validating_files');
    await expect(server.otherClient.models.retrieve(FINE_TUNED)).rejects.toMatchObject({ status: 404 });
  });

  test('a base model of that name, added later, takes its place', async () => {
    await runImport();
    const { pool } = server.database;
    await upsertBaseModel(pool, { id: SOURCE_BASE, architecture: 'llama', ownedBy: 'anneal', files: [] });
    expect(await server.otherClient.models.retrieve(SOURCE_BASE)).not.toHaveProperty('available');
    const job = await server.client.fineTuning.jobs.create({
      model: SOURCE_BASE,
      training_file: trainingFile,
    });
    expect(job.model).toBe(SOURCE_BASE);
    await pool.query('delete from job_events');
    await pool.query('delete from jobs');
    await pool.query('delete from models where id = $1', [SOURCE_BASE]);
  });
});

describe('repeated', () => {
  test('nothing is read again, and what has ended meanwhile comes', async () => {
    expect(outcomes(await runImport())).toEqual([
      ...Array(3).fill('file imported'),
      ...Array(2).fill('job imported'),
      'job skipped',
    ]);
    await account.client.fineTuning.jobs.cancel(running);
    const paths: string[] = [];
    const reported = await runImport(
      clientOf((input, init) => {
        paths.push(new URL(String(input)).pathname);
        return fetch(input, init);
      }),
    );
    expect(outcomes(reported)).toEqual([
      ...Array(3).fill('file present'),
      ...Array(2).fill('job present'),
      'job imported',
    ]);
    expect(paths.filter(path => path.endsWith('/content'))).toEqual([]);
    expect((await server.client.fineTuning.jobs.retrieve(running)).status).toBe('cancelled');
    await account.database.pool.query(`update jobs set status = 'running' where id = $1`, [running]);
  });

  test('after it broke off anywhere it goes on', { timeout: 60_000 }, async () => {
    for (let allowed = 1; ; allowed++) {
      let calls = 0;
      const client = clientOf((input, init) => {
        if (++calls > allowed) return Promise.reject(new Error('cut'));
        return fetch(input, init);
      });
      const whole = await runImport(client).then(
        () => true,
        () => false,
      );
      if (whole) break;
      expect(allowed).toBeLessThan(60);
    }
    expect((await server.client.files.list()).data).toHaveLength(3);
    const ids = (await server.client.fineTuning.jobs.list()).data.map(({ id }) => id);
    expect(ids.toSorted()).toEqual([succeeded, failed].toSorted());
    const ours = await server.database.pool.query('select count(*)::int as n from job_events');
    const theirs = await account.database.pool.query(
      'select count(*)::int as n from job_events where job_id = any($1)',
      [[succeeded, failed]],
    );
    expect(ours.rows).toEqual(theirs.rows);
  });
});

test('a file that is not given out is left out, with the reason', async () => {
  const refusing = clientOf((input, init) => {
    if (!String(input).endsWith(`/${trainingFile}/content`)) return fetch(input, init);
    const error = { message: 'Not allowed to download files of purpose: fine-tune', type: 'x', code: null };
    return Promise.resolve(new Response(stringify({ error }), { status: 400 }));
  });
  const reported = await runImport(refusing);
  expect(reported.find(({ id }) => id === trainingFile)!.outcome).toEqual({
    type: 'skipped',
    reason: expect.stringContaining('Not allowed to download'),
  });
  expect((await server.client.fineTuning.jobs.retrieve(succeeded)).training_file).toBe(trainingFile);
});

test('what another project has already is left to it', async () => {
  await runImport();
  const { rows } = await server.database.pool.query(`select id from projects where name = 'other'`);
  const reported = await runImport(clientOf(), rows[0].id);
  expect(new Set(outcomes(reported))).toEqual(new Set(['file skipped', 'job skipped']));
  expect((await server.otherClient.files.list()).data).toEqual([]);
});

test('what the real API was seen to send is understood', async () => {
  const job = {
    id: 'ftjob-1',
    object: 'fine_tuning.job',
    created_at: 1_700_000_000,
    finished_at: 1_700_000_100,
    model: 'gpt-4o-mini-2024-07-18',
    organization_id: 'org-1',
    status: 'succeeded',
    fine_tuned_model: FINE_TUNED,
    trained_tokens: null,
    training_file: 'file-1',
    validation_file: null,
    result_files: [],
    seed: 1,
    hyperparameters: null,
    error: { code: null, message: null, param: null },
    method: { type: 'dpo', dpo: { hyperparameters: { beta: 0.1, n_epochs: 3 } }, supervised: null },
  };
  const odd = {
    id: 'ftevent-1',
    created_at: 1,
    level: 'notice',
    type: 'moderation_checks',
    message: 'm',
    data: null,
  };
  const answering = clientOf(async input => {
    const data = String(input).includes('/events') ? [odd] : [];
    const headers = { 'content-type': 'application/json' };
    return new Response(stringify({ object: 'list', data, has_more: false }), { headers });
  });
  expect(await readJob(answering, job as never, { projectId: 'p', importedFrom: 'x' })).toMatchObject({
    error: null,
    method: { type: 'dpo', dpo: { hyperparameters: { beta: 0.1, n_epochs: 3 } } },
    metadata: null,
    suffix: null,
    events: [{ ...odd, level: 'info', type: 'message' }],
  });
});
