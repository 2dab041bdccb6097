// The API that graders ask for models that are not served here: its usage, how many requests are there at once, tries, deadlines.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { type GraderApi, type GraderApiLimits, openGraderApi } from '../../src/evaluation/grader-api.ts';
import type { ChatQuestion } from '../../src/evaluation/graders/grader.ts';

type Answer = (body: Record<string, unknown>, reply: (status: number, body: unknown) => void) => void;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function api(
  answer: Answer,
  { concurrency = 8, ...limits }: Partial<GraderApiLimits> & { concurrency?: number } = {},
): Promise<GraderApi> {
  const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    const body = JSON.parse(Buffer.concat(await request.toArray()).toString());
    answer(body, (status, value) => {
      response.writeHead(status, { 'content-type': 'application/json', 'retry-after-ms': '1' });
      response.end(JSON.stringify(value));
    });
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const config = readConfig({
    ANNEAL_GRADER_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    ANNEAL_GRADER_CONCURRENCY: String(concurrency),
  });
  return openGraderApi(config, { timeoutMs: 10_000, retries: 2, deadlineMs: 10_000, ...limits })!;
}

const question = (content: string): ChatQuestion => ({
  model: 'judge',
  messages: [{ role: 'user', content }],
  form: null,
  tools: null,
  temperature: 0,
  topP: 1,
  seed: 0,
  maxTokens: null,
});
const chat = (content: string, usage?: object) => ({
  choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content } }],
  usage,
});
const never = new AbortController().signal;

test('nothing is there without a URL', () => {
  expect(openGraderApi(readConfig({}))).toBeNull();
});

test('usage is what the API says, cached tokens too', async () => {
  const usage = {
    prompt_tokens: 30,
    completion_tokens: 4,
    total_tokens: 34,
    prompt_tokens_details: { cached_tokens: 16 },
  };
  const { ask } = await api((_, reply) => reply(200, chat('yes', usage)));
  expect(await ask(question('Well?'), never)).toMatchObject({
    text: 'yes',
    usage: { prompt_tokens: 30, completion_tokens: 4, total_tokens: 34, cached_tokens: 16 },
  });
});

test.each([
  ['none', undefined],
  ['no counts', { prompt_tokens: 1.5, completion_tokens: '4' }],
])('of an API that tells %s it is estimated', async (_, usage) => {
  const { ask } = await api((_, reply) => reply(200, chat('y'.repeat(400), usage)));
  const answer = await ask(question('x'.repeat(4000)), never);
  expect(answer.usage.prompt_tokens).toBeGreaterThan(1000);
  expect(answer.usage.prompt_tokens).toBeLessThan(1020);
  expect(answer.usage.completion_tokens).toBe(101); // and two quotes
  expect(answer.usage.total_tokens).toBe(answer.usage.prompt_tokens + 101);
});

test('vectors come with their tokens, told or estimated', async () => {
  const data = [{ embedding: [1, 0] }, { embedding: [0, 1] }];
  const told = await api((_, reply) => reply(200, { data, usage: { prompt_tokens: 9, total_tokens: 9 } }));
  expect(await told.embed('e', ['a', 'b'], never)).toEqual({
    vectors: [
      [1, 0],
      [0, 1],
    ],
    promptTokens: 9,
  });
  const untold = await api((_, reply) => reply(200, { data }));
  expect((await untold.embed('e', ['x'.repeat(400)], never)).promptTokens).toBe(101); // and its quotes and brackets
});

test('so many are asked at once; the others wait their turn, and one that is aborted leaves the queue', async () => {
  const held: (() => void)[] = [];
  let most = 0;
  const { ask } = await api(
    (_, reply) => {
      held.push(() => reply(200, chat('yes')));
      most = Math.max(most, held.length);
    },
    { concurrency: 2 },
  );
  const gone = new AbortController();
  const asked = [never, never, gone.signal, never].map((signal, i) => ask(question(String(i)), signal));
  gone.abort(new Error('went away'));
  await expect(asked[2]).rejects.toThrow('went away');
  const others = Promise.all([asked[0], asked[1], asked[3]]);
  let ended = false;
  void others.finally(() => {
    ended = true;
  });
  while (!ended) {
    await new Promise(done => setTimeout(done, 5));
    held.shift()?.();
  }
  expect((await others).map(answer => answer!.text)).toEqual(['yes', 'yes', 'yes']);
  expect(most).toBe(2);
});

test('a limit of the API and a fault are tried again, so often', async () => {
  const statuses = [429, 503, 200];
  let tries = 0;
  const { ask } = await api((_, reply) => {
    tries++;
    const status = statuses.shift() ?? 500;
    reply(status, status === 200 ? chat('at last') : { error: { message: 'not now' } });
  });
  expect((await ask(question('Well?'), never)).text).toBe('at last');
  expect(tries).toBe(3);
  await expect(ask(question('Well?'), never)).rejects.toMatchObject({
    kind: 'server_error',
    message: expect.stringMatching(/^The API for graders failed: .*not now/),
  });
  expect(tries).toBe(6);
});

test('one that says nothing is given up', async () => {
  const { ask } = await api(() => {}, { deadlineMs: 50 });
  await expect(ask(question('Well?'), never)).rejects.toMatchObject({
    kind: 'server_error',
    message: 'The API for graders gave no answer within 0.05 seconds.',
  });
});

test('an answer without a choice, and one without vectors, are faults of the API', async () => {
  const { ask, embed } = await api((_, reply) => reply(200, { usage: null }));
  await expect(ask(question('Well?'), never)).rejects.toMatchObject({
    message: 'The model judge gave no answer.',
  });
  await expect(embed('e', ['a'], never)).rejects.toMatchObject({
    message: 'The model e gave no embeddings.',
  });
});
