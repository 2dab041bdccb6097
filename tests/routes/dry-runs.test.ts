import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { toFile } from 'openai';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { runDryRun } from '../../src/queue/dry-run.ts';
import type { NewJob } from '../../src/store/jobs.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { addRunSpeed, type Runner, writeRunner } from '../../src/store/runners.ts';
import { golden, storeFolder } from '../serving/serving.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer({
  environment: { ANNEAL_PRICES: JSON.stringify({ [BASE_MODEL]: { training: 5 } }), ANNEAL_CURRENCY: 'chf' },
});
const chat = (user: string, assistant: string) =>
  `${JSON.stringify({
    messages: [
      { role: 'user', content: user },
      { role: 'assistant', content: assistant },
    ],
  })}\n`;
const good = Array.from({ length: 12 }, (_, i) => chat(`q ${i}`, i % 2 ? 'odd' : 'even')).join('');

beforeAll(async () => {
  const files = await storeFolder(server.deps, BASE_MODEL, golden('llama-tiny'));
  await upsertBaseModel(server.deps.pool, { id: BASE_MODEL, architecture: 'llama', ownedBy: 'test', files });
});

async function upload(content: string): Promise<string> {
  const file = await toFile(Buffer.from(content), 'train.jsonl');
  return (await server.client.files.create({ file, purpose: 'fine-tune' })).id;
}

interface Answer {
  object: string;
  valid: boolean;
  error: { code: string; param: string } | null;
  n_steps: number;
  trained_tokens: number;
  estimated_seconds: number | null;
  estimated_memory_bytes: number | null;
  no_estimate: string | null;
  runners: {
    id: string;
    estimated_seconds: number | null;
    estimated_memory_bytes: number | null;
    micro_batch_rows: number[];
    row_lengths: number[];
    error: string | null;
  }[];
  estimated_cost: { value: number; currency: string } | null;
  training_file: Record<string, unknown>;
  hyperparameters: { adapter: string; n_epochs: number };
}

const dryRun = (body: object, client = server.client) =>
  client.post<Answer>('/fine_tuning/jobs', { query: { dry_run: true }, body });

const workFolders = async () => (await readdir(tmpdir())).filter(name => name.startsWith('anneal-dry-run-'));

test('says what the job would do, and makes none', async () => {
  const training = await upload(good);
  const validation = await upload(good.slice(0, good.indexOf('\n') + 1) + chat('new', 'odd'));
  const report = await dryRun({
    model: BASE_MODEL,
    training_file: training,
    validation_file: validation,
    hyperparameters: { n_epochs: 2, batch_size: 5 },
  });
  expect(report).toMatchObject({
    object: 'fine_tuning.job.dry_run',
    model: BASE_MODEL,
    valid: true,
    error: null,
    n_steps: 6,
    estimated_memory_bytes: null,
    estimated_seconds: null,
    no_estimate: 'No worker is alive.',
    runners: [],
    duplicates_between_files: { count: 1, groups: [[1, 1]] },
    hyperparameters: { n_epochs: 2, batch_size: 5, adapter: 'lora', rank: 16 },
    training_file: {
      file_id: training,
      format: 'chat',
      lines: 12,
      examples: 12,
      error_count: 0,
      answers: [
        { answer: 'even', count: 6 },
        { answer: 'odd', count: 6 },
      ],
      eos: { trained_tokens: 12, examples_without: 0 },
    },
    validation_file: { file_id: validation, examples: 2 },
  });
  expect(report.training_file.samples).toHaveLength(3);
  expect(report.trained_tokens).toBe(2 * (report.training_file.trained_tokens as number));
  expect(report.estimated_cost).toEqual({
    value: expect.closeTo((report.trained_tokens! * 5) / 1e6, 12),
    currency: 'chf',
  });
  expect((await server.client.fineTuning.jobs.list()).data).toEqual([]);
  const { rows } = await server.database.pool.query(
    `select name from pgboss.job where name in ('validate-files', 'train')`,
  );
  expect(rows).toEqual([]);
});

test('names bad lines as the job would', async () => {
  const file = await upload(`${good}{"messages": [{"role": "user", "content": 1}]}\n`);
  const report = await dryRun({ model: BASE_MODEL, training_file: file });
  expect(report).toMatchObject({ valid: false, error: { code: 'invalid_training_file' } });
  expect(report.training_file).toMatchObject({ lines: 13, examples: 12, bad_lines: 1 });
  expect((report.training_file.errors as { line: number }[]).every(({ line }) => line === 13)).toBe(true);
});

describe('on the workers that are alive', () => {
  const HARDWARE = { hardware: 'A processor (2)', engine: 'onnx', device: 'cpu', threads: 1 };
  const worker = (id: string, changes: Partial<Runner> = {}) => ({
    id,
    host: 'here',
    ...HARDWARE,
    memoryBytes: 8e9,
    freeBytes: 4e9,
    memoryBudgetBytes: null,
    flopsPerSecond: 1e9,
    startedAt: new Date(),
    ...changes,
  });
  const alive = (runner: ReturnType<typeof worker>, seconds = 60) =>
    writeRunner(server.database.pool, runner, seconds);
  const ran = (adapter: string, seconds: number) => {
    const kind = { ...HARDWARE, model: BASE_MODEL, adapter, quantization: 'none' };
    return addRunSpeed(server.database.pool, kind, { flops: 1e9, seconds });
  };
  afterEach(() => server.database.pool.query('delete from runners; delete from run_speeds'));
  const body = async () => ({
    model: BASE_MODEL,
    training_file: await upload(good),
    hyperparameters: { n_epochs: 4 },
  });

  test('says for each what the run would take there, and of the fastest first', async () => {
    await alive(worker('slow'));
    await alive(worker('fast', { flopsPerSecond: 1e10 }));
    await alive(worker('small', { memoryBudgetBytes: 1000 }));
    await alive(worker('silent', { flopsPerSecond: 1e12 }), 0);
    const { runners, ...report } = await dryRun(await body());
    expect(runners.map(({ id }) => id)).toEqual(['slow', 'fast', 'small']);
    const [slow, fast, small] = runners;
    expect(fast!.estimated_seconds).toBeGreaterThan(0);
    expect(slow!.estimated_seconds! / fast!.estimated_seconds!).toBeCloseTo(10, 1);
    expect(slow).toMatchObject({
      device: 'cpu',
      available_memory_bytes: 2.8e9,
      seconds_from: 'matrix_products',
      error: null,
    });
    expect(slow!.row_lengths).toHaveLength(slow!.micro_batch_rows.length);
    expect(small).toMatchObject({ estimated_seconds: null, estimated_memory_bytes: null });
    expect(small!.error).toMatch(/of memory, but only 1 MB are available/);
    expect(report).toMatchObject({
      estimated_seconds: fast!.estimated_seconds,
      estimated_memory_bytes: fast!.estimated_memory_bytes,
      no_estimate: null,
    });
  });

  test('goes by the speed of earlier runs of the model on such a machine', async () => {
    await alive(worker('one'));
    const job = await body();
    const { estimated_seconds: before } = await dryRun(job);
    await ran('full', 100);
    expect((await dryRun(job)).estimated_seconds).toBe(before);
    await ran('lora', 1);
    await ran('lora', 7);
    const after = await dryRun(job);
    expect(after.estimated_seconds! / before!).toBeCloseTo(4, 1);
    expect(after.runners[0]).toMatchObject({ seconds_from: 'earlier_runs' });
  });

  test('is made again without them when measuring takes its process down', async () => {
    const config = { ...server.deps.config, engine: 'none' as never };
    const job: NewJob = {
      projectId: server.projectId,
      apiKeyId: null,
      model: BASE_MODEL,
      trainingFile: await upload(good),
      validationFile: null,
      suffix: null,
      seed: 1,
      metadata: null,
      method: { type: 'supervised', supervised: { hyperparameters: {} } },
    };
    const machines = [{ id: 'one', device: 'cpu', freeBytes: 4e9, budgetBytes: null }];
    const { signal } = new AbortController();
    const answer = await runDryRun({ ...server.deps, config }, job, { machines, signal });
    expect(answer).toMatchObject({
      type: 'done',
      report: { error: null, estimates: [], unmeasured: expect.stringMatching(/could not be measured/) },
    });
  });

  test('says why it cannot', async () => {
    await alive(worker('small', { memoryBudgetBytes: 1000 }));
    const report = await dryRun(await body());
    expect(report).toMatchObject({ valid: true, estimated_seconds: null, estimated_memory_bytes: null });
    expect(report.no_estimate).toMatch(/No worker that is alive can run it/);
  });
});

describe('refuses', () => {
  test('what a job refuses, in the same words', async () => {
    const body = { model: BASE_MODEL, training_file: 'file-unknown' };
    const failures = await Promise.all([
      dryRun(body).catch(error => error),
      server.client.fineTuning.jobs.create(body).catch(error => error),
    ]);
    expect(failures[0]).toMatchObject({ status: 404, param: 'training_file' });
    expect(failures[0].message).toBe(failures[1].message);
    const file = await upload(good);
    await expect(
      dryRun({ model: BASE_MODEL, training_file: file }, server.otherClient),
    ).rejects.toMatchObject({ status: 404 });
  });

  test('more than two at once, to be tried again, and answers other requests meanwhile', async () => {
    const file = await upload(good);
    const runs = Array.from({ length: 3 }, () =>
      dryRun({ model: BASE_MODEL, training_file: file }).catch(error => error),
    );
    const begun = performance.now();
    await server.client.models.list();
    expect(performance.now() - begun).toBeLessThan(1000);
    const results = await Promise.all(runs);
    const refused = results.filter(({ status }) => status === 503);
    expect(refused).toHaveLength(1);
    expect(refused[0].headers.get('retry-after')).toBe('5');
    expect(results.filter(({ object }) => object === 'fine_tuning.job.dry_run')).toHaveLength(2);
  });

  test('nothing stays when the client goes away', async () => {
    const file = await upload(good);
    const gone = new AbortController();
    const request = server.client
      .post('/fine_tuning/jobs', {
        query: { dry_run: true },
        body: { model: BASE_MODEL, training_file: file },
        signal: gone.signal,
      })
      .catch(error => error);
    await expect.poll(workFolders).not.toEqual([]);
    gone.abort();
    await request;
    await expect.poll(workFolders, { timeout: 5000 }).toEqual([]);
  });
});

test('a misspelt dry_run makes no job', async () => {
  const body = { model: BASE_MODEL, training_file: await upload(good) };
  const before = (await server.client.fineTuning.jobs.list()).data.length;
  const request = server.client.post('/fine_tuning/jobs', { query: { dryrun: true }, body });
  await expect(request).rejects.toMatchObject({ status: 400, code: 'unknown_parameter', param: 'dryrun' });
  expect((await server.client.fineTuning.jobs.list()).data).toHaveLength(before);
});
