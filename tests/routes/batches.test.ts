// /v1/batches through the official client, run by a worker that asks the same routes as people do.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buildAnswerer } from '../../src/app.ts';
import type { Deps } from '../../src/deps.ts';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import type { GenerationEvent } from '../../src/serving/protocol.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

let brokenOff = 0;
let hang = false;

/** Says what it was asked with; hangs until it is broken off where the test wants it. */
async function* generate(
  _model: unknown,
  parameters: { prompt: { messages?: { content: string }[] } },
  signal: AbortSignal,
): AsyncGenerator<GenerationEvent, void> {
  yield { type: 'started', promptTokens: 3 };
  if (hang) {
    await new Promise((_, fail) => {
      signal.addEventListener('abort', () => {
        brokenOff += 1;
        fail(signal.reason);
      });
    });
  }
  const text = `heard ${parameters.prompt.messages?.at(-1)?.content ?? 'a prompt'}`;
  yield { type: 'piece', choice: 0, text, tokens: [] };
  yield { type: 'finished', choice: 0, finishReason: 'stop' };
  yield { type: 'done', promptTokens: 3, completionTokens: 4 };
}

const server = useServer({
  deps: () => ({ generation: { generate, close: async () => undefined } as unknown as Deps['generation'] }),
});
let answerer: ReturnType<typeof buildAnswerer>;

beforeAll(() => {
  answerer = buildAnswerer(server.deps);
});
afterAll(() => answerer.close());
beforeEach(() => {
  hang = false;
  brokenOff = 0;
});

async function withWorker<T>(work: (worker: Worker) => Promise<T>): Promise<T> {
  const worker = await startWorker({ ...server.deps, answer: answerer.answer });
  try {
    return await work(worker);
  } finally {
    await worker.close();
  }
}

async function upload(lines: object[], purpose: 'batch' | 'fine-tune' = 'batch'): Promise<string> {
  const text = lines.map(line => `${JSON.stringify(line)}\n`).join('');
  const { id } = await server.client.files.create({ file: new File([text], 'in.jsonl'), purpose });
  return id;
}

const line = (custom_id: string, body: object, url = '/v1/chat/completions') => ({
  custom_id,
  method: 'POST',
  url,
  body: { model: BASE_MODEL, ...body },
});
const chat = (custom_id: string, extra: object = {}) =>
  line(custom_id, { messages: [{ role: 'user', content: custom_id }], ...extra });

async function create(lines: object[], extra: object = {}) {
  return server.client.batches.create({
    input_file_id: await upload(lines),
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
    ...extra,
  });
}

async function waitFor(id: string, status: string) {
  await expect
    .poll(async () => (await server.client.batches.retrieve(id)).status, { timeout: 15_000 })
    .toBe(status);
  return server.client.batches.retrieve(id);
}

interface Result {
  custom_id: string;
  response: { status_code: number; request_id: string; body: Record<string, unknown> };
}

async function read(fileId: string): Promise<Result[]> {
  const text = await (await server.client.files.content(fileId)).text();
  return text
    .trim()
    .split('\n')
    .map(one => JSON.parse(one));
}

test('a batch of conversations, from its creation to its files', async () => {
  const made = await create([chat('one'), chat('two'), chat('bad', { temperature: 9 })], {
    metadata: { team: 'ä' },
  });
  expect(made).toMatchObject({
    object: 'batch',
    status: 'validating',
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
    metadata: { team: 'ä' },
    request_counts: { total: 0, completed: 0, failed: 0 },
    errors: null,
  });
  expect(made.expires_at! - made.created_at).toBe(24 * 3600);
  const done = await withWorker(() => waitFor(made.id, 'completed'));
  expect(done).toMatchObject({
    model: BASE_MODEL,
    request_counts: { total: 3, completed: 2, failed: 1 },
    usage: { input_tokens: 6, output_tokens: 8, total_tokens: 14 },
  });
  const output = await read(done.output_file_id!);
  expect(output.map(({ custom_id }) => custom_id)).toEqual(['one', 'two']);
  expect(output[0]!.response).toMatchObject({
    status_code: 200,
    request_id: expect.stringMatching(/^req_/),
    body: {
      object: 'chat.completion',
      choices: [{ message: { role: 'assistant', content: 'heard one' } }],
      usage: { total_tokens: 7 },
    },
  });
  const [failure] = await read(done.error_file_id!);
  expect(failure!.response).toMatchObject({
    status_code: 400,
    body: { error: { code: 'decimal_above_max_value', param: 'temperature' } },
  });
  const file = await server.client.files.retrieve(done.output_file_id!);
  expect(file).toMatchObject({ purpose: 'batch_output', filename: `${made.id}_output.jsonl` });
  expect(file.expires_at! - file.created_at).toBe(30 * 24 * 3600);
});

test('of completions, too, and what it took is noted as taken by a batch', async () => {
  const made = await create([line('c', { prompt: 'x' }, '/v1/completions')], { endpoint: '/v1/completions' });
  const done = await withWorker(() => waitFor(made.id, 'completed'));
  expect((await read(done.output_file_id!))[0]!.response.body).toMatchObject({
    object: 'text_completion',
    choices: [{ text: 'heard a prompt' }],
  });
  await server.deps.usage.flush();
  const { rows } = await server.database.pool.query(
    'select batch, sum(requests)::int as requests from usage group by batch',
  );
  expect(rows).toEqual([{ batch: true, requests: expect.any(Number) }]);
});

test('cancelling breaks off what is being generated', async () => {
  hang = true;
  const made = await create([chat('one'), chat('two')]);
  await withWorker(async () => {
    await waitFor(made.id, 'in_progress');
    const cancelling = await server.client.batches.cancel(made.id);
    expect(cancelling.status).toBe('cancelling');
    expect(cancelling.cancelling_at).toEqual(expect.any(Number));
    const cancelled = await waitFor(made.id, 'cancelled');
    expect(cancelled).toMatchObject({ output_file_id: null, request_counts: { total: 2, failed: 2 } });
  });
  await expect.poll(() => brokenOff).toBe(2);
  await expect(server.client.batches.cancel(made.id)).rejects.toMatchObject({
    status: 400,
    code: 'invalid_batch_state',
  });
});

test('lists in pages, newest first, the own ones', async () => {
  const ids = [await create([chat('a')]), await create([chat('b')]), await create([chat('c')])].map(
    ({ id }) => id,
  );
  const listed: string[] = [];
  for await (const { id } of server.client.batches.list({ limit: 2 })) listed.push(id);
  expect(listed.slice(0, 3)).toEqual(ids.toReversed());
  expect((await server.otherClient.batches.list()).data).toEqual([]);
  const unknown = { status: 404, param: 'batch_id' };
  await expect(server.otherClient.batches.retrieve(ids[0]!)).rejects.toMatchObject(unknown);
  await expect(server.otherClient.batches.cancel(ids[0]!)).rejects.toMatchObject(unknown);
});

describe('what is refused', () => {
  test('a file of another purpose, or none', async () => {
    const input_file_id = await upload([chat('a')], 'fine-tune');
    await expect(create([], { input_file_id })).rejects.toMatchObject({
      status: 400,
      code: 'invalid_file',
      param: 'input_file_id',
    });
    await expect(create([], { input_file_id: 'file-none' })).rejects.toMatchObject({ status: 404 });
  });

  test('an endpoint that is not served', async () => {
    await expect(create([chat('a')], { endpoint: '/v1/images/generations' })).rejects.toMatchObject({
      status: 400,
      param: 'endpoint',
    });
  });

  test('another window', async () => {
    await expect(create([chat('a')], { completion_window: '1h' })).rejects.toMatchObject({
      status: 400,
      param: 'completion_window',
    });
  });
});

test("a batch's requests count under the limits of its project, and are told when there is room", async () => {
  const ask = () =>
    answerer.answer({
      projectId: 'proj_default',
      apiKeyId: 'key_1',
      url: '/v1/chat/completions',
      body: { model: BASE_MODEL, messages: [{ role: 'user', content: 'Hi' }] },
      signal: new AbortController().signal,
    });
  const project_id = 'proj_default';
  const limits = server.admin.projects.rateLimits;
  await limits.updateRateLimit('rl-all', { project_id, max_requests_per_1_minute: 2 });
  expect(await ask()).toMatchObject({ statusCode: 200, retryAfterSeconds: null });
  await server.client.chat.completions.create({
    model: BASE_MODEL,
    messages: [{ role: 'user', content: 'Hi' }],
  });
  const refused = await ask();
  expect(refused).toMatchObject({ statusCode: 429, body: { error: { code: 'rate_limit_exceeded' } } });
  expect(refused.retryAfterSeconds).toBeGreaterThan(20);
  await limits.updateRateLimit('rl-all', { project_id, max_requests_per_1_minute: 0 });
  expect(await ask()).toMatchObject({ statusCode: 429, retryAfterSeconds: null });
  await server.database.pool.query('delete from rate_limits');
});
