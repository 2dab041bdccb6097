import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { toFile } from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { upsertBaseModel } from '../../src/store/models.ts';
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

test('tells seconds from the last run with the same file', async () => {
  const file = await upload(good);
  const body = { model: BASE_MODEL, training_file: file, hyperparameters: { n_epochs: 4 } };
  const { trained_tokens: tokens } = await dryRun(body);
  const { pool } = server.database;
  const job = await server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: file });
  await pool.query(
    `update jobs set status = 'succeeded', trained_tokens = $2, hyperparameters = '{"adapter": "lora"}' where id = $1`,
    [job.id, tokens / 2],
  );
  await pool.query(
    `insert into job_metrics select $1, step, '{"seconds": 1.5}' from generate_series(1, 20) as step`,
    [job.id],
  );
  expect((await dryRun(body)).estimated_seconds).toBe(60);
  const full = {
    ...body,
    hyperparameters: undefined,
    method: { type: 'supervised', supervised: { hyperparameters: { adapter: 'full' } } },
  };
  expect((await dryRun(full)).estimated_seconds).toBeNull();
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
