// An Idempotency-Key on POSTs whose answer is not made in one transaction: generation, whole and streamed, and all others.
import { setTimeout as sleep } from 'node:timers/promises';
import type OpenAI from 'openai';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Deps } from '../../src/deps.ts';
import { ApiError } from '../../src/errors.ts';
import { newSecretKey } from '../../src/ids.ts';
import type { GenerationEvent } from '../../src/serving/protocol.ts';
import { insertApiKey } from '../../src/store/api-keys.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

let calls = 0;
let pauseMs = 0;
let failure: Error | null = null;

/** Says how often it was asked. */
async function* generate(): AsyncGenerator<GenerationEvent, void> {
  const call = ++calls;
  yield { type: 'started', promptTokens: 3 };
  yield { type: 'piece', choice: 0, text: `answer ${call}`, tokens: [] };
  await sleep(pauseMs);
  if (failure) throw failure;
  yield { type: 'piece', choice: 0, text: ', an ä', tokens: [] };
  yield { type: 'finished', choice: 0, finishReason: 'stop' };
  yield { type: 'done', promptTokens: 3, completionTokens: 4 };
}

const server = useServer({
  deps: () => ({ generation: { generate, close: async () => undefined } as unknown as Deps['generation'] }),
});

beforeEach(() => {
  calls = 0;
  pauseMs = 0;
  failure = null;
});

const withKey = (idempotencyKey: string) => ({ headers: { 'Idempotency-Key': idempotencyKey } });
const chat = (key: string, content = 'hello', client = server.client) =>
  client.chat.completions
    .create({ model: BASE_MODEL, messages: [{ role: 'user', content }] }, withKey(key))
    .withResponse();
const textOf = ({ data }: { data: OpenAI.ChatCompletion }) => data.choices[0]!.message.content;
const replayed = ({ response }: { response: Response }) => response.headers.get('idempotent-replayed');
const rowOf = async (key: string) =>
  (await server.database.pool.query('select * from idempotency_keys where key = $1', [key])).rows[0];

async function streamed(key: string, content = 'hello', signal?: AbortSignal): Promise<string> {
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${server.key}`,
      'content-type': 'application/json',
      'idempotency-key': key,
    },
    body: JSON.stringify({ model: BASE_MODEL, messages: [{ role: 'user', content }], stream: true }),
    signal: signal ?? null,
  });
  expect(response.headers.get('content-type')).toContain('text/event-stream');
  return response.text();
}

const reused = { status: 409, code: 'idempotency_key_reused', param: 'Idempotency-Key' };

describe('generation', () => {
  test('is done once, and the same answer given again', async () => {
    const first = await chat('chat-1');
    const again = await chat('chat-1');
    expect(again.data).toEqual(first.data);
    expect([replayed(first), replayed(again)]).toEqual([null, 'true']);
    expect(calls).toBe(1);
  });

  test('for another body is a 409 that clients do not send again', async () => {
    await chat('chat-2');
    const error = await chat('chat-2', 'other').catch(thrown => thrown);
    expect(error).toMatchObject(reused);
    expect(error.headers.get('x-should-retry')).toBe('false');
    expect(calls).toBe(1);
  });

  test('asked for many times at once is done once', async () => {
    pauseMs = 300;
    const answers = await Promise.all(Array.from({ length: 8 }, () => chat('chat-3')));
    expect(new Set(answers.map(textOf))).toEqual(new Set(['answer 1, an ä']));
    expect(answers.map(replayed).filter(value => value === null)).toHaveLength(1);
    expect(calls).toBe(1);
  });

  test('that failed may be asked for again', async () => {
    failure = new ApiError('server_is_overloaded', 'busy');
    await expect(chat('chat-4')).rejects.toMatchObject({ status: 503 });
    expect(await rowOf('chat-4')).toBeUndefined();
    failure = null;
    expect(textOf(await chat('chat-4'))).toBe('answer 2, an ä');
  });

  test('one that waited for a request that failed does it itself', async () => {
    pauseMs = 300;
    failure = new ApiError('server_is_overloaded', 'busy');
    const first = chat('chat-5').catch(error => error);
    await sleep(100);
    const second = chat('chat-5');
    await sleep(100);
    const wait = first.then(() => {
      failure = null;
    });
    expect(await first).toMatchObject({ status: 503 });
    await wait;
    expect(textOf(await second)).toBe('answer 2, an ä');
  });

  test('of an api that died is done by the next after its hold', async () => {
    await server.database.pool.query(
      `insert into idempotency_keys (owner, key, fingerprint, expires_at, held_by, held_until)
       values ($1, 'chat-6', 'x', now() + interval '1 day', 'gone', now() - interval '1 second')`,
      [server.projectId],
    );
    expect(textOf(await chat('chat-6'))).toBe('answer 1, an ä');
    expect(textOf(await chat('chat-6'))).toBe('answer 1, an ä');
  });

  test('a request that is refused takes no key', async () => {
    const wrong = server.client.post('/chat/completions', { body: { model: 1 }, ...withKey('chat-7') });
    await expect(wrong).rejects.toMatchObject({ status: 400 });
    expect(await rowOf('chat-7')).toBeUndefined();
    await chat('chat-7');
  });
});

describe('a stream', () => {
  test('is given again as it was', async () => {
    const first = await streamed('stream-1');
    expect(first).toContain('answer 1');
    expect(first).toMatch(/data: \[DONE\]\n\n$/);
    expect(await streamed('stream-1')).toBe(first);
    expect(calls).toBe(1);
    await expect(chat('stream-1')).rejects.toMatchObject(reused);
  });

  test('comes while it is made, not at its end', async () => {
    pauseMs = 500;
    const pieces = server.client.chat.completions.create(
      { model: BASE_MODEL, messages: [{ role: 'user', content: 'x' }], stream: true },
      withKey('stream-2'),
    );
    const start = performance.now();
    for await (const chunk of await pieces) if (chunk.choices[0]?.delta.content) break;
    expect(performance.now() - start).toBeLessThan(450);
  });

  test('that broke off is not kept', async () => {
    failure = new ApiError('server_error', 'lost');
    expect(await streamed('stream-3')).toMatch(/data: \{"error":/);
    failure = null;
    await expect.poll(() => rowOf('stream-3')).toBeUndefined();
    expect(await streamed('stream-3')).toContain('answer 2');
  });

  test('whose reader has gone away is not kept', async () => {
    pauseMs = 300;
    const gone = new AbortController();
    const reading = streamed('stream-4', 'hello', gone.signal);
    setTimeout(() => gone.abort(), 100);
    await expect(reading).rejects.toThrow();
    await expect.poll(() => rowOf('stream-4')).toBeUndefined();
    pauseMs = 0;
    expect(await streamed('stream-4')).toContain('answer 2');
  });
});

describe('every other POST', () => {
  test('a webhook endpoint is made once, and its secret told again to its maker', async () => {
    const create = (name = 'x') =>
      server.client.webhooks.create(
        { name, url: 'https://example.com/', event_types: ['batch.failed'] },
        withKey('webhook'),
      );
    const made = await create();
    expect(await create()).toEqual(made);
    expect((await server.client.webhooks.list()).data).toHaveLength(1);
    await expect(create('y')).rejects.toMatchObject(reused);
  });

  test('cancelling twice is one cancelling, and the same answer', async () => {
    const upload = await server.client.uploads.create({
      filename: 'a.jsonl',
      purpose: 'fine-tune',
      bytes: 1,
      mime_type: 'x',
    });
    const cancel = (key: string) => server.client.uploads.cancel(upload.id, withKey(key));
    const cancelled = await cancel('cancel');
    expect(await cancel('cancel')).toEqual(cancelled);
    await expect(cancel('cancel-2')).rejects.toMatchObject({ status: 400 });
  });

  test('takes the header, by the document', () => {
    const { paths } = server.app.swagger() as unknown as {
      paths: Record<string, { post?: { parameters?: { name: string; in: string }[]; responses: object } }>;
    };
    for (const [path, { post }] of Object.entries(paths)) {
      if (!post) continue;
      expect(post.parameters, path).toContainEqual(
        expect.objectContaining({ name: 'idempotency-key', in: 'header' }),
      );
      expect(Object.keys(post.responses), path).toContain('409');
    }
  });
});

test('what is kept cannot be read in the database, nor opened by another key of the project', async () => {
  const { data } = await chat('sealed', 'a secret question');
  const row = await rowOf('sealed');
  expect(row.answer).toBeNull();
  expect(row.sealed.toString('latin1')).not.toContain('answer');
  const secret = newSecretKey();
  await insertApiKey(server.database.pool, { projectId: server.projectId, name: 'second', secret });
  const second = server.client.withOptions({ apiKey: secret });
  await expect(chat('sealed', 'a secret question', second)).rejects.toMatchObject(reused);
  expect((await chat('sealed', 'a secret question')).data).toEqual(data);
});

test('another project may use the same key', async () => {
  await chat('shared');
  expect(textOf(await chat('shared', 'hello', server.otherClient))).toBe('answer 2, an ä');
});
