import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import supertest from 'supertest';
import { beforeAll, expect, test, vi } from 'vitest';
import { countJobs } from '../../src/store/job-counts.ts';
import { fakeGeneration } from '../support/fake-generation.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const TOKEN = 'metrics-token-1';
const server = useServer({
  environment: { ANNEAL_METRICS_TOKEN: TOKEN },
  deps: () => ({ generation: fakeGeneration({ promptTokens: 10, completionTokens: 4, delayMs: 50 }) }),
});
const closed = useServer();

const scrape = async () => {
  const response = await supertest(server.url).get('/metrics').auth(TOKEN, { type: 'bearer' }).expect(200);
  expect(response.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  return response.text;
};
/** The value of the one line that begins so. */
const readValue = (text: string, name: string): number => {
  const lines = text.split('\n').filter(line => line.startsWith(`${name} `));
  expect(lines, name).toHaveLength(1);
  return Number(lines[0]!.slice(name.length));
};

beforeAll(async () => {
  const file = new File(['{}\n'], 'a.jsonl');
  const { id: training_file } = await server.client.files.create({ file, purpose: 'fine-tune' });
  const jobs = server.client.fineTuning.jobs;
  for (let i = 0; i < 3; i++) await jobs.create({ model: BASE_MODEL, training_file });
  await jobs.cancel((await jobs.list()).data[0]!.id);
  await server.client.chat.completions.create({
    model: BASE_MODEL,
    messages: [{ role: 'user', content: 'Hi' }],
  });
  await server.client.files.retrieve('file-x').catch(() => undefined);
  await supertest(server.url).get('/nowhere').expect(404);
});

test('without a token in the configuration there is none; with one, it is asked for', async () => {
  await supertest(closed.url).get('/metrics').expect(404);
  await supertest(server.url).get('/metrics').expect(401);
  for (const wrong of ['x', server.key, `${TOKEN}1`])
    await supertest(server.url).get('/metrics').auth(wrong, { type: 'bearer' }).expect(401);
});

test('every line is in the text format', async () => {
  const lines = (await scrape()).split('\n').filter(line => line !== '');
  const sample = /^[a-z0-9_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?[\d.e+-]+|NaN|[+-]Inf)$/;
  for (const line of lines) expect(line).toMatch(line.startsWith('#') ? /^# (HELP|TYPE) / : sample);
});

test('requests by route, not by path, with their durations', async () => {
  const text = await scrape();
  const count = 'anneal_http_request_duration_seconds_count';
  const of = (method: string, route: string, status: number) =>
    readValue(text, `${count}{method="${method}",route="${route}",status="${status}"}`);
  expect(of('POST', '/v1/fine_tuning/jobs', 200)).toBe(3);
  expect(of('GET', '/v1/files/:file_id', 404)).toBe(1);
  expect(of('GET', 'unknown', 404)).toBe(1);
  expect(text).not.toContain('file-x');
  expect(readValue(text, 'anneal_http_requests_in_progress')).toBe(1); // this one
});

test('an answer that is broken off counts too', async () => {
  const stream = await server.client.chat.completions.create({
    model: BASE_MODEL,
    messages: [{ role: 'user', content: 'Hi' }],
    stream: true,
  });
  stream.controller.abort();
  const route = 'method="POST",route="/v1/chat/completions",status="499"';
  const name = `anneal_http_request_duration_seconds_count{${route}}`;
  await vi.waitFor(async () => expect(readValue(await scrape(), name)).toBe(1));
});

test('tokens, by kind', async () => {
  await vi.waitFor(async () =>
    expect(readValue(await scrape(), 'anneal_model_requests_total{kind="completions"}')).toBe(2),
  );
  const text = await scrape();
  expect(readValue(text, 'anneal_input_tokens_total{kind="completions"}')).toBe(20);
  expect(readValue(text, 'anneal_output_tokens_total{kind="completions"}')).toBeGreaterThanOrEqual(4);
});

test('jobs by status, and those that wait', async () => {
  const text = await scrape();
  expect(readValue(text, 'anneal_jobs{status="validating_files"}')).toBe(2);
  expect(readValue(text, 'anneal_jobs{status="cancelled"}')).toBe(1);
  expect(readValue(text, 'anneal_jobs_waiting')).toBe(2);
  expect(readValue(text, 'anneal_jobs_waiting_oldest_seconds')).toBeGreaterThan(0);
  expect(readValue(text, 'anneal_database_up')).toBe(1);
  const counts = await countJobs(server.database.pool);
  expect(counts.waiting).toBe(2);
});

test('the process itself, and those that it has started', async () => {
  const child = fork(join(import.meta.dirname, '../../src/serving/child.ts'), ['{}'], { silent: true });
  try {
    await vi.waitFor(async () => {
      const text = await scrape();
      expect(readValue(text, 'process_resident_memory_bytes')).toBeGreaterThan(1e7);
      expect(readValue(text, 'anneal_child_resident_memory_bytes{program="serving/child"}')).toBeGreaterThan(
        1e6,
      );
    });
  } finally {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
});

test('while the database is away, the rest is told', async () => {
  const query = vi.spyOn(server.database.pool, 'query').mockRejectedValue(new Error('away') as never);
  const text = await scrape().finally(() => query.mockRestore());
  expect(readValue(text, 'anneal_database_up')).toBe(0);
  expect(text).toContain('process_cpu_seconds_total');
});
