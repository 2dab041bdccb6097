// Batches run by workers, with an answerer of the test's own. What the routes answer in a batch is tests/routes/batches.test.ts'.
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Answerer, AnswererRequest } from '../../src/queue/answerer.ts';
import { checkInput } from '../../src/queue/batch-input.ts';
import { failBatch, takeBatch, writeLineAnswer } from '../../src/store/batch-runs.ts';
import { cancelBatch, findBatch, insertBatch } from '../../src/store/batches.ts';
import { findFile, isFileRead } from '../../src/store/files.ts';
import { LeaseLost } from '../../src/store/leases.ts';
import { insertWebhookEndpoint } from '../../src/store/webhooks.ts';
import { useDatabase } from '../support/postgres.ts';
import { startWorkerProcess } from './processes.ts';
import { openSetting, type Setting, waitFor } from './setting.ts';

const database = useDatabase();
const ENDPOINT = '/v1/chat/completions';
let setting: Setting;

beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
  await insertWebhookEndpoint(database.pool, {
    projectId: setting.projectId,
    name: 'all',
    url: 'https://127.0.0.1/',
    eventTypes: ['batch.completed', 'batch.failed', 'batch.cancelled', 'batch.expired'],
    secret: 'whsec_AAAA',
  });
});
afterAll(() => setting.close());

const request = (line: number, extra: object = {}) => ({
  custom_id: `r${line}`,
  method: 'POST',
  url: ENDPOINT,
  body: { model: 'llama-tiny', line, ...extra },
});
const requests = (count: number) => Array.from({ length: count }, (_, index) => request(index + 1));

async function create(lines: readonly unknown[], lifetimeSeconds = 3600): Promise<string> {
  const { id } = await insertBatch(database.pool, {
    projectId: setting.projectId,
    apiKeyId: 'key_1',
    endpoint: ENDPOINT,
    inputFileId: await setting.putFile(lines),
    completionWindow: '24h',
    metadata: null,
    outputExpiresAfterSeconds: 7200,
    lifetimeSeconds,
  });
  return id;
}

const read = async (id: string) => (await findBatch(database.pool, setting.projectId, id))!;
const ended = (id: string, status: string, timeoutMs?: number) =>
  waitFor(
    `${id} to be ${status}`,
    async () => ((await read(id)).status === status ? read(id) : null),
    timeoutMs,
  );

interface Result {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string; body: unknown } | null;
  error: { code: string; message: string } | null;
}

async function results(fileId: string | null): Promise<Result[]> {
  if (fileId === null) return [];
  const file = await findFile(database.pool, setting.projectId, fileId);
  expect(file).toMatchObject({ purpose: 'batch_output', status: 'processed' });
  const chunks = [];
  for await (const chunk of await setting.blobs.get(file!.blobKey)) chunks.push(chunk);
  return Buffer.concat(chunks)
    .toString()
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line));
}

async function announced(id: string): Promise<string[]> {
  const { rows } = await database.pool.query(
    `select event_type from webhook_deliveries where data->>'id' = $1`,
    [id],
  );
  return rows.map(row => row.event_type);
}

interface Answering {
  answer: Answerer;
  asked: AnswererRequest[];
}

/** `retryAfterSeconds` is said with every error. */
function answering(
  how: (request: AnswererRequest) => Promise<object | number> | object | number,
  retryAfterSeconds: number | null = null,
): Answering {
  const asked: AnswererRequest[] = [];
  const answer: Answerer = async request => {
    asked.push(request);
    const body = await how(request);
    const statusCode = typeof body === 'number' ? body : 200;
    return {
      statusCode,
      requestId: `req_${asked.length}`,
      body: typeof body === 'number' ? { error: {} } : body,
      retryAfterSeconds: typeof body === 'number' ? retryAfterSeconds : null,
    };
  };
  return { asked, answer };
}

const lineOf = ({ body }: AnswererRequest) => (body as { line: number }).line;

async function withWorker<T>(answer: Answerer, work: () => Promise<T>): Promise<T> {
  const worker = await setting.startWorker({ answer });
  try {
    return await work();
  } finally {
    await worker.close();
  }
}

test('each request is answered, and the answers are files', async () => {
  const { answer, asked } = answering(request =>
    lineOf(request) === 3 ? 404 : { echo: request.body, usage: { prompt_tokens: 2, completion_tokens: 3 } },
  );
  const id = await create(requests(40));
  const batch = await withWorker(answer, () => ended(id, 'completed'));
  expect(batch).toMatchObject({
    model: 'llama-tiny',
    errors: null,
    total: 40,
    completed: 39,
    failed: 1,
    inputTokens: 78,
    outputTokens: 117,
  });
  for (const time of [batch.inProgressAt, batch.finalizingAt, batch.completedAt])
    expect(time).toBeInstanceOf(Date);
  expect([batch.failedAt, batch.expiredAt, batch.cancelledAt]).toEqual([null, null, null]);
  const output = await results(batch.outputFileId);
  expect(output.map(({ custom_id }) => custom_id)).toEqual(
    requests(40)
      .map(({ custom_id }) => custom_id)
      .filter(custom => custom !== 'r3'),
  );
  expect(output[0]).toEqual({
    id: expect.stringMatching(/^batch_req_/),
    custom_id: 'r1',
    response: {
      status_code: 200,
      request_id: expect.stringMatching(/^req_/),
      body: { echo: { model: 'llama-tiny', line: 1 }, usage: { prompt_tokens: 2, completion_tokens: 3 } },
    },
    error: null,
  });
  expect(await results(batch.errorFileId)).toMatchObject([
    { custom_id: 'r3', response: { status_code: 404 }, error: null },
  ]);
  expect(asked).toHaveLength(40);
  expect(asked[0]).toMatchObject({ projectId: setting.projectId, apiKeyId: 'key_1', url: ENDPOINT });
  expect(await announced(id)).toEqual(['batch.completed']);
  const { rows } = await database.pool.query('select 1 from batch_requests where batch_id = $1', [id]);
  expect(rows).toEqual([]);
  const file = (await findFile(database.pool, setting.projectId, batch.outputFileId!))!;
  expect(file.filename).toBe(`${id}_output.jsonl`);
  expect(Math.round((file.expiresAt!.getTime() - file.createdAt.getTime()) / 1000)).toBeCloseTo(7200, -1);
});

test('a file that is wrong fails it, with what is wrong in each line', async () => {
  const { answer, asked } = answering(() => ({}));
  const id = await create([
    '{"custom_id": "a"',
    request(1),
    request(1),
    { ...request(2), method: 'GET' },
    { ...request(3), url: '/v1/embeddings' },
    { ...request(4), body: undefined },
    { ...request(5), body: { model: 'gpt-9' } },
    { ...request(6), custom_id: 7 },
    request(7, { stream: true }),
    '[]',
  ]);
  const batch = await withWorker(answer, () => ended(id, 'failed'));
  expect(batch.errors!.map(({ line, code, param }) => [line, code, param])).toEqual([
    [1, 'invalid_json_line', null],
    [3, 'duplicate_custom_id', 'custom_id'],
    [4, 'invalid_method', 'method'],
    [5, 'invalid_url', 'url'],
    [6, 'missing_required_parameter', 'body'],
    [7, 'model_not_found', 'body.model'],
    [8, 'invalid_type', 'custom_id'],
    [9, 'unsupported_parameter', 'body.stream'],
    [10, 'invalid_json_line', null],
  ]);
  expect(batch).toMatchObject({ total: 0, outputFileId: null, errorFileId: null });
  expect(batch.failedAt).toBeInstanceOf(Date);
  expect(asked).toEqual([]);
  expect(await announced(id)).toEqual(['batch.failed']);
});

test('an empty file, one that is gone and one with too many lines fail it', async () => {
  const { answer } = answering(() => ({}));
  const empty = await create([]);
  const gone = await create(requests(1));
  await database.pool.query(
    'delete from files where id = (select input_file_id from batches where id = $1)',
    [gone],
  );
  await withWorker(answer, () => Promise.all([ended(empty, 'failed'), ended(gone, 'failed')]));
  expect((await read(empty)).errors).toMatchObject([{ code: 'empty_file' }]);
  expect((await read(gone)).errors).toMatchObject([{ code: 'invalid_file' }]);

  const many = Buffer.from(Array.from({ length: 50_001 }, (_, i) => JSON.stringify(request(i))).join('\n'));
  const rules = { endpoint: ENDPOINT, hasModel: async () => true };
  expect((await checkInput(asSource(many), rules)).errors).toMatchObject([{ code: 'too_many_requests' }]);
});

async function* asSource(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

test('a request that meets an overloaded server is asked again, one that is wrong is not', async () => {
  const tries = new Map<number, number>();
  const { answer, asked } = answering(request => {
    const count = (tries.get(lineOf(request)) ?? 0) + 1;
    tries.set(lineOf(request), count);
    if (lineOf(request) === 1) return count < 3 ? 503 : {};
    return 400;
  });
  const id = await create(requests(2));
  const batch = await withWorker(answer, () => ended(id, 'completed'));
  expect(batch).toMatchObject({ completed: 1, failed: 1 });
  expect(asked.map(lineOf).toSorted()).toEqual([1, 1, 1, 2]);
});

describe('at a limit of its project', () => {
  const waitsUntil = async (id: string) =>
    (await database.pool.query('select waits_until, lease_until from batches where id = $1', [id])).rows[0];
  const goOn = (id: string) =>
    database.pool.query('update batches set waits_until = now() where id = $1', [id]);

  test('it waits, others have their turn, and it goes on with what is left', async () => {
    let room = 5;
    const { answer } = answering(({ body }) => {
      if ((body as { line: number; free?: boolean }).free) return {};
      return room-- > 0 ? {} : 429;
    }, 40);
    const id = await create(requests(9));
    const batch = await withWorker(answer, async () => {
      const { waits_until, lease_until } = await waitFor('it to wait', async () => {
        const found = await waitsUntil(id);
        return found.waits_until && !found.lease_until ? found : null;
      });
      expect(lease_until).toBeNull();
      expect((waits_until.getTime() - Date.now()) / 1000).toBeCloseTo(40, -1);
      expect(await read(id)).toMatchObject({ status: 'in_progress', completed: 5, failed: 0 });
      await ended(await create([request(1, { free: true })]), 'completed');
      room = 9;
      await goOn(id);
      return ended(id, 'completed');
    });
    expect(batch).toMatchObject({ completed: 9, failed: 0, errorFileId: null });
  });

  test('it is cancelled at once', async () => {
    const { answer } = answering(() => 429, 3600);
    const id = await create(requests(2));
    await withWorker(answer, async () => {
      await waitFor('it to wait', async () => (await waitsUntil(id)).waits_until);
      await cancelBatch(database.pool, setting.projectId, id);
      await ended(id, 'cancelled', 5000);
    });
  });

  test('what can never fit is the answer of its line', async () => {
    const { answer, asked } = answering(request => (lineOf(request) === 2 ? 429 : {}));
    const id = await create(requests(3));
    const batch = await withWorker(answer, () => ended(id, 'completed'));
    expect(batch).toMatchObject({ completed: 2, failed: 1 });
    expect(asked).toHaveLength(3);
  });
});

describe('cancelled', () => {
  test('while it is answered: what was answered is its output', async () => {
    const { answer, asked } = answering(async request => {
      if (lineOf(request) > 5) await sleep(60_000, undefined, { signal: request.signal });
      return {};
    });
    const id = await create(requests(30));
    const batch = await withWorker(answer, async () => {
      await waitFor('five answers', async () => (await read(id)).completed === 5);
      expect(await cancelBatch(database.pool, setting.projectId, id)).toMatchObject({ status: 'cancelling' });
      return ended(id, 'cancelled', 5000);
    });
    expect(batch).toMatchObject({ total: 30, completed: 5, failed: 25 });
    expect((await results(batch.outputFileId)).map(({ custom_id }) => custom_id)).toEqual(
      requests(5).map(({ custom_id }) => custom_id),
    );
    const failures = await results(batch.errorFileId);
    expect(failures).toHaveLength(25);
    expect(failures[0]).toMatchObject({
      custom_id: 'r6',
      response: null,
      error: { code: 'batch_cancelled' },
    });
    expect(asked.length).toBeLessThan(30);
    expect(await announced(id)).toEqual(['batch.cancelled']);
  });

  test('before anybody looked at it', async () => {
    const id = await create(requests(3));
    await cancelBatch(database.pool, setting.projectId, id);
    const { answer, asked } = answering(() => ({}));
    const batch = await withWorker(answer, () => ended(id, 'cancelled'));
    expect(batch).toMatchObject({ total: 0, outputFileId: null, errorFileId: null });
    expect(asked).toEqual([]);
    expect(await cancelBatch(database.pool, setting.projectId, id)).toBeNull();
  });
});

test('what is not answered when its window ends never is', async () => {
  const { answer } = answering(async request => {
    await sleep(lineOf(request) * 100, undefined, { signal: request.signal });
    return {};
  });
  const id = await create(requests(60), 2);
  const batch = await withWorker(answer, () => ended(id, 'expired'));
  expect(batch.completed).toBeGreaterThan(5);
  expect(batch.completed + batch.failed).toBe(60);
  expect(batch.failed).toBeGreaterThan(5);
  const failures = await results(batch.errorFileId);
  expect(failures.at(-1)).toMatchObject({
    custom_id: 'r60',
    response: null,
    error: { code: 'batch_expired' },
  });
  expect(await announced(id)).toEqual(['batch.expired']);
});

test('a killed worker repeats no request that was answered', { timeout: 60_000 }, async () => {
  const log = join(setting.config.dataDirectory, 'answers.txt');
  await rm(log, { force: true });
  const environment = {
    DATABASE_URL: database.url,
    ANNEAL_DATA_DIR: setting.config.dataDirectory,
    ANNEAL_LEASE_SECONDS: '2',
    TEST_ANSWERS: log,
  };
  const id = await create(requests(200));
  const asked = async () => (await readFile(log, 'utf8')).trim().split('\n').map(Number);
  const timesAsked = (lines: number[], line: number) => lines.filter(one => one === line).length;
  const answeredBefore = new Map<number, number>(); // line -> how often it was asked for until the kill
  for (let kill = 1; kill <= 3; kill++) {
    const worker = await startWorkerProcess(environment);
    const seen = (await read(id)).completed;
    await waitFor('some answers', async () => (await read(id)).completed > seen + 20);
    await worker.end('SIGKILL');
    const { rows } = await database.pool.query(
      'select line from batch_requests where batch_id = $1 and response is not null',
      [id],
    );
    const lines = await asked();
    for (const { line } of rows)
      if (!answeredBefore.has(line)) answeredBefore.set(line, timesAsked(lines, line));
  }
  const last = await startWorkerProcess(environment);
  const batch = await ended(id, 'completed');
  await last.end('SIGTERM');
  expect(batch).toMatchObject({ total: 200, completed: 200, failed: 0 });
  expect((await results(batch.outputFileId)).map(({ custom_id }) => custom_id)).toEqual(
    requests(200).map(({ custom_id }) => custom_id),
  );
  expect(answeredBefore.size).toBeGreaterThan(60);
  const lines = await asked();
  for (const [line, times] of answeredBefore) expect(timesAsked(lines, line), `line ${line}`).toBe(times);
  expect(new Set(lines).size).toBe(200);
  expect(await announced(id)).toEqual(['batch.completed']);
});

test('a worker that is stopped gives it back at once', async () => {
  const hanging = answering(request => sleep(60_000, {}, { signal: request.signal }));
  const id = await create(requests(3));
  await withWorker(hanging.answer, () => waitFor('a request', async () => hanging.asked.length === 3));
  const { answer } = answering(() => ({}));
  await withWorker(answer, () => ended(id, 'completed', 5000));
});

test('who lost the lease can write nothing', async () => {
  const id = await create(requests(1));
  const runner = { id: 'one', leaseSeconds: 60 };
  const { answer } = answering(() => ({}));
  const lease = (await takeBatch(database.pool, runner))!;
  expect(await takeBatch(database.pool, runner)).toBeNull();
  await database.pool.query('update batches set lease_until = now() where id = $1', [id]);
  await withWorker(answer, () => ended(id, 'completed'));
  const response = { status_code: 200, request_id: 'req_1', body: {} };
  const late = { line: 1, response, inputTokens: 0, outputTokens: 0 };
  expect(await writeLineAnswer(database.pool, lease, late)).toBe(false);
  await expect(failBatch(database.pool, lease, [])).rejects.toThrow(LeaseLost);
});

test('its input stays as long as it is read, also when the file is deleted', async () => {
  const id = await create(requests(1));
  const { inputFileId } = await read(id);
  expect(await isFileRead(database.pool, inputFileId)).toBe(true);
  await database.pool.query('update files set deleted_at = now() where id = $1', [inputFileId]);
  const { answer } = answering(() => ({}));
  await withWorker(answer, () => ended(id, 'completed'));
  expect(await isFileRead(database.pool, inputFileId)).toBe(false);
});
