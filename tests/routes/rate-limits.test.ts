// Limits as clients meet them, over two api processes on one database.
import type { AddressInfo } from 'node:net';
import OpenAI from 'openai';
import pino from 'pino';
import supertest from 'supertest';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { buildApp } from '../../src/app.ts';
import { NO_LIMIT } from '../../src/schemas/rate-limits.ts';
import { openPool } from '../../src/store/database.ts';
import { fakeGeneration } from '../support/fake-generation.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer({
  deps: () => ({ generation: fakeGeneration({ promptTokens: 10, completionTokens: 4 }) }),
});
const project_id = 'proj_default';
const limits = () => server.admin.projects.rateLimits;
const body = { model: BASE_MODEL, messages: [{ role: 'user', content: 'Hi' }], max_tokens: 100 };
const second = { url: '', close: async () => undefined as unknown };

beforeAll(async () => {
  const pool = openPool(server.database.url, pino({ level: 'silent' }));
  const app = await buildApp({ ...server.deps, pool });
  await app.listen({ host: '127.0.0.1', port: 0 });
  second.url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  second.close = async () => {
    await app.close();
    await pool.end();
  };
});
afterAll(() => second.close());
afterEach(() => server.database.pool.query('delete from rate_limits'));

const ask = (extra: object = {}, url = server.url) =>
  supertest(url)
    .post('/v1/chat/completions')
    .auth(server.key, { type: 'bearer' })
    .send({ ...body, ...extra });
const requestsNoted = () => server.deps.usage.totals()[0]?.requests ?? 0;
const set = (id: string, values: object) => limits().updateRateLimit(id, { project_id, ...values });

test('nothing is limited at first, and no header says so', async () => {
  const { data } = await limits().listRateLimits(project_id);
  expect(data).toEqual(
    ['all', BASE_MODEL].map(model => ({
      id: `rl-${model}`,
      object: 'project.rate_limit',
      model,
      max_requests_per_1_minute: NO_LIMIT,
      max_tokens_per_1_minute: NO_LIMIT,
      max_requests_per_1_day: NO_LIMIT,
    })),
  );
  const { headers } = await ask().expect(200);
  expect(Object.keys(headers).filter(name => name.startsWith('x-ratelimit'))).toEqual([]);
});

test('of two changes at once neither takes the other back', async () => {
  for (let i = 1; i <= 10; i++) {
    await Promise.all([
      set('rl-all', { max_requests_per_1_minute: i }),
      set('rl-all', { max_tokens_per_1_minute: 100 + i }),
    ]);
    const [all] = (await limits().listRateLimits(project_id)).data;
    expect(all).toMatchObject({ max_requests_per_1_minute: i, max_tokens_per_1_minute: 100 + i });
  }
});

test('requests a minute hold over both processes; the refusal is what clients know', async () => {
  const limit = await set('rl-all', { max_requests_per_1_minute: 3 });
  expect(limit).toMatchObject({
    id: 'rl-all',
    max_requests_per_1_minute: 3,
    max_tokens_per_1_minute: NO_LIMIT,
  });
  const first = await ask().expect(200);
  expect(first.headers).toMatchObject({
    'x-ratelimit-limit-requests': '3',
    'x-ratelimit-remaining-requests': '2',
    'x-ratelimit-reset-requests': expect.stringMatching(/^\d+(\.\d+)?s$/),
  });
  expect(first.headers).not.toHaveProperty('x-ratelimit-limit-tokens');
  await ask({}, second.url).expect(200);
  await ask({ stream: true }, second.url).expect(200);
  for (const url of [server.url, second.url]) {
    const refused = await ask({}, url).expect(429);
    expect(refused.body.error).toMatchObject({
      type: 'rate_limit_error',
      code: 'rate_limit_exceeded',
      param: null,
      message: expect.stringMatching(
        /^Rate limit reached for all models in project proj_default on requests per min \(RPM\): Limit 3, Used 3, Requested 1\. Please try again in [\d.]+m?s\.$/,
      ),
    });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(20);
    expect(refused.headers['x-ratelimit-remaining-requests']).toBe('0');
    expect(refused.headers).not.toHaveProperty('x-should-retry');
  }
  const client = new OpenAI({ apiKey: server.key, baseURL: `${second.url}/v1`, maxRetries: 0 });
  await expect(client.chat.completions.create(body as never)).rejects.toBeInstanceOf(OpenAI.RateLimitError);
  await set('rl-all', { max_requests_per_1_minute: NO_LIMIT });
  await ask().expect(200);
});

test('tokens: taken by estimate, corrected by what was used', async () => {
  await set('rl-all', { max_tokens_per_1_minute: 200 });
  const before = requestsNoted();
  const first = await ask().expect(200);
  const estimate = Math.ceil(JSON.stringify(body.messages).length / 4) + body.max_tokens;
  expect(first.headers).toMatchObject({
    'x-ratelimit-limit-tokens': '200',
    'x-ratelimit-remaining-tokens': String(200 - estimate),
  });
  await vi.waitFor(() => expect(requestsNoted()).toBe(before + 1));
  await server.deps.usage.flush(); // 14 tokens were used
  for (let i = 0; i < 2; i++) await ask({ max_tokens: 50 }).expect(200);
  const refused = await ask({ max_tokens: 185 }).expect(429);
  expect(refused.body.error.message).toContain('on tokens per min (TPM): Limit 200');
  const large = await ask({ max_tokens: 1000 }).expect(429);
  expect(large.body.error.message).toMatch(/^Request too large .* It can never fit\.$/);
  expect(large.headers).not.toHaveProperty('retry-after');
});

test("a base model's limit is also that of what was trained from it, and of nothing else", async () => {
  await set(`rl-${BASE_MODEL}`, { max_requests_per_1_day: 1 });
  await ask().expect(200);
  const refused = await ask().expect(429);
  expect(refused.body.error.message).toContain(
    `for ${BASE_MODEL} in project proj_default on requests per day`,
  );
  const other = await server.otherClient.chat.completions.create(body as never).asResponse();
  expect(other.status).toBe(200);
});

test('what cannot be limited', async () => {
  await expect(set('rl-nobody', { max_requests_per_1_minute: 1 })).rejects.toMatchObject({
    status: 404,
    param: 'rate_limit_id',
  });
  await expect(set('rl-all', { max_images_per_1_minute: 1 })).rejects.toMatchObject({
    status: 400,
    param: 'max_images_per_1_minute',
  });
});

test('in pages', async () => {
  const ids = [];
  for await (const { id } of limits().listRateLimits(project_id, { limit: 1 })) ids.push(id);
  expect(ids).toEqual(['rl-all', `rl-${BASE_MODEL}`]);
  const before = await limits().listRateLimits(project_id, { before: ids[1]! });
  expect(before.data.map(limit => limit.id)).toEqual(['rl-all']);
});
