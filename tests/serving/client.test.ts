// The generation process from outside: lost, overloaded, left alone by its client, stopped.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { ApiError } from '../../src/errors.ts';
import { openGenerationClient } from '../../src/serving/client.ts';
import type { GenerationParameters } from '../../src/serving/protocol.ts';
import { GREEDY } from '../../src/serving/sampling.ts';
import { findModel } from '../../src/store/models.ts';
import { BASE, useServing } from './serving.ts';

const server = useServing({ maxPending: 4 });
const messages = [{ role: 'user' as const, content: 'Tell me a story.' }];
const endless = { model: BASE, messages, temperature: 1, seed: 1, logit_bias: { 0: -100, 2: -100 } };

async function parameters(change: Partial<GenerationParameters> = {}) {
  const model = (await findModel(server.deps.pool, server.projectId, BASE))!;
  const asked: GenerationParameters = {
    prompt: { kind: 'text', text: 'once' },
    n: 1,
    bestOf: 1,
    maxTokens: 4,
    sampling: { ...GREEDY, logitBias: { 0: -100, 2: -100 } },
    stop: [],
    form: null,
    topLogprobs: null,
    echo: false,
    stream: true,
    ...change,
  };
  return { target: { id: BASE, files: model.files, adapterFiles: null }, asked };
}

async function failure(request: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  return request.then(
    () => {
      throw new Error('the request was answered');
    },
    error => error,
  );
}

/** Process ids of this process's children that are generation processes. */
async function childPids(): Promise<number[]> {
  const { execFile } = await import('node:child_process');
  const ps = execFile('ps', ['-o', 'pid=,args=', '--ppid', String(process.pid)]);
  let text = '';
  ps.stdout!.on('data', chunk => {
    text += chunk;
  });
  await once(ps, 'close');
  return text
    .split('\n')
    .filter(line => line.includes('serving/child.ts'))
    .map(line => Number.parseInt(line, 10));
}

test('a killed process fails what runs with a 5xx and is replaced with the next request', async () => {
  await server.client.chat.completions.create({ ...endless, max_tokens: 2 });
  const [pid] = await childPids();
  const running = failure(server.client.chat.completions.create({ ...endless, max_tokens: 200 }));
  const stream = await server.client.chat.completions.create({ ...endless, max_tokens: 200, stream: true });
  const streamed = failure(
    (async () => {
      for await (const _ of stream) if (pid) process.kill(pid, 'SIGKILL');
    })().catch(error => {
      // Killing twice is no failure of the stream.
      if ((error as { code?: string }).code !== 'ESRCH') throw error;
    }),
  );
  const error = await running;
  expect(error).toBeInstanceOf(OpenAI.InternalServerError);
  expect(error).toMatchObject({ status: 500, type: 'server_error' });
  expect(String((await streamed).message)).toMatch(/generation process ended|was answered/);
  const after = await server.client.chat.completions.create({ ...endless, max_tokens: 2 });
  expect(after.usage!.completion_tokens).toBe(2);
  const pids = await childPids();
  expect(pids).toHaveLength(1);
  expect(pids[0]).not.toBe(pid);
});

test('a process that cannot be started fails its request at once', async () => {
  const { target, asked } = await parameters();
  const client = openGenerationClient({
    service: {
      engine: 'cpu',
      device: 'cpu',
      threads: 1,
      modelBytes: 1,
      adapterBytes: 1,
      cacheBytes: 1,
      cacheDirectory: '/nonexistent',
    },
    cache: { materialize: async () => '/nonexistent' },
    log: server.deps.log,
  });
  const { execPath } = process;
  process.execPath = '/nonexistent/node';
  const answer = client.generate(target, asked, new AbortController().signal)[Symbol.asyncIterator]().next();
  await expect(answer.finally(() => Object.assign(process, { execPath }))).rejects.toMatchObject({
    kind: 'server_error',
  });
  await client.close();
});

test('a client that goes away ends its generation', async () => {
  const { target, asked } = await parameters({ maxTokens: 240 });
  const started = performance.now();
  for await (const _ of server.deps.generation.generate(target, asked, new AbortController().signal));
  const whole = performance.now() - started;

  const controller = new AbortController();
  const stream = await server.client.chat.completions.create(
    { ...endless, n: 4, max_tokens: 200, stream: true },
    { signal: controller.signal },
  );
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  controller.abort();
  // The four choices fill the queue: that there is room again shows that they have ended.
  const before = performance.now();
  for (;;) {
    const answer = server.client.chat.completions.create({ ...endless, n: 4, max_tokens: 1 });
    if (
      await answer.then(
        () => true,
        () => false,
      )
    )
      break;
    await sleep(5);
  }
  expect(performance.now() - before).toBeLessThan(Math.max(300, whole / 2));
});

test('too many choices are refused with 503 and a time to come back', async () => {
  const { target, asked } = await parameters({ n: 4, bestOf: 4, maxTokens: 200 });
  const controller = new AbortController();
  const running = server.deps.generation.generate(target, asked, controller.signal);
  const iterator = running[Symbol.asyncIterator]();
  await iterator.next();
  const error = await failure(server.client.chat.completions.create({ ...endless, max_tokens: 1 }));
  expect(error).toMatchObject({
    status: 503,
    code: 'server_is_overloaded',
    type: 'service_unavailable_error',
  });
  expect(Number(error.headers!.get('retry-after'))).toBeGreaterThan(0);
  controller.abort();
  await expect(iterator.next()).rejects.toThrow();
  const after = await server.client.chat.completions.create({ ...endless, max_tokens: 1 });
  expect(after.usage!.completion_tokens).toBe(1);
});

describe('in a stream', () => {
  test('an error after the first event comes as an event that the client throws', async () => {
    await server.client.chat.completions.create({ ...endless, max_tokens: 1 });
    const [pid] = await childPids();
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...endless, max_tokens: 200, stream: true }),
    });
    const reader = response.body!.getReader();
    await reader.read();
    process.kill(pid!, 'SIGKILL');
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += Buffer.from(value).toString('utf8');
    }
    const last = text.trim().split('\n\n').at(-1)!;
    expect(JSON.parse(last.slice('data: '.length)).error).toMatchObject({
      type: 'server_error',
      param: null,
    });
    expect(text).not.toContain('[DONE]');
  });
});

test('a model whose files are not what the store says is not served', async () => {
  const { target, asked } = await parameters();
  const files = target.files.map(file => ({ ...file, bytes: file.bytes + 1 }));
  const events = server.deps.generation.generate({ ...target, files }, asked, new AbortController().signal);
  await expect(events[Symbol.asyncIterator]().next()).rejects.toThrow(/bytes instead of/);
});

test('after closing, requests are refused and no process is left', async () => {
  const { target, asked } = await parameters({ maxTokens: 200 });
  const signal = new AbortController().signal;
  const running = server.deps.generation.generate(target, asked, signal)[Symbol.asyncIterator]();
  await running.next();
  await server.deps.generation.close();
  await expect(
    (async () => {
      while (!(await running.next()).done);
    })(),
  ).rejects.toThrow(ApiError);
  const refused = server.deps.generation.generate(target, asked, signal)[Symbol.asyncIterator]();
  await expect(refused.next()).rejects.toThrow(/shutting down/);
  expect(await childPids()).toEqual([]);
});
