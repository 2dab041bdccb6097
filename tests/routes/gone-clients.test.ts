// Requests whose client has gone away before the server came to them: nothing is begun for them, and no limit is touched.
import { type ClientRequest, request, type ServerResponse } from 'node:http';
import { beforeEach, expect, test } from 'vitest';
import type { GenerationClient } from '../../src/serving/client.ts';
import { writeRateLimit } from '../../src/store/rate-limits.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const begun: string[] = [];
const begin = (what: string) => {
  begun.push(what);
  throw new Error('it is enough that it was begun');
};
const generation: GenerationClient = {
  generate: () => begin('generation'),
  embed: async () => begin('embedding'),
  classify: async () => begin('classification'),
  close: async () => undefined,
};
const server = useServer({ deps: () => ({ generation }) });

beforeEach(async () => {
  begun.length = 0;
  await server.database.pool.query('delete from rate_limits');
  await writeRateLimit(server.database.pool, {
    projectId: server.projectId,
    model: 'all',
    requestsPerMinute: 10,
    tokensPerMinute: null,
    requestsPerDay: null,
  });
});

function send(path: string, body: object): ClientRequest {
  const headers = { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' };
  const sent = request(`${server.url}${path}`, { method: 'POST', headers }).on('error', () => undefined);
  return sent.end(JSON.stringify({ model: BASE_MODEL, ...body }));
}

/** While nobody can read the models: that is what the server waits for first. */
async function askAndLeave(path: string, body: object): Promise<void> {
  const blocker = await server.database.pool.connect();
  try {
    await blocker.query('begin; lock table models in access exclusive mode');
    const coming = new Promise<ServerResponse>(done =>
      server.app.server.once('request', (_, response) => done(response)),
    );
    const asking = send(path, body);
    const response = await coming;
    await expect.poll(isWaiting, { timeout: 10_000 }).toBe(true);
    asking.destroy();
    await expect.poll(() => response.closed, { timeout: 10_000 }).toBe(true);
  } finally {
    await blocker.query('rollback');
    blocker.release();
  }
}

async function isWaiting(): Promise<boolean> {
  const waiting = "select 1 from pg_locks where relation = 'models'::regclass and not granted";
  return (await server.database.pool.query(waiting)).rowCount! > 0;
}

test.each([
  ['/v1/chat/completions', { messages: [{ role: 'user', content: 'a' }] }],
  ['/v1/completions', { prompt: 'a' }],
  ['/v1/responses', { input: 'a' }],
  ['/v1/embeddings', { input: 'a' }],
  ['/v1/classifications', { input: 'a' }],
])('POST %s', async (path, body) => {
  await askAndLeave(path, body);
  // one that stays comes after it, so by its end the first has had its turn
  await new Promise(done => send(path, body).once('response', done));
  expect(begun).toHaveLength(1);
  const { rows } = await server.database.pool.query('select used_requests from rate_limits');
  expect(rows[0].used_requests).toBeLessThanOrEqual(1);
});
