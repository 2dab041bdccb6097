// The buckets themselves, on two pools as of two processes.
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import {
  type RateLimits,
  settleTokens,
  takeFromLimits,
  writeRateLimit,
} from '../../src/store/rate-limits.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const projectId = 'proj_default';
const none = { requestsPerMinute: null, tokensPerMinute: null, requestsPerDay: null };
let other: pg.Pool;

beforeAll(async () => {
  await ensureDefaultProject(database.pool);
  other = new pg.Pool({ connectionString: database.url });
});
afterAll(() => other.end());
beforeEach(() => database.pool.query('delete from rate_limits'));

const limit = (model: string, limits: Partial<RateLimits>) =>
  writeRateLimit(database.pool, { projectId, model, ...none, ...limits });
const take = async (tokens = 1, model = 'm', pool: pg.Pool = database.pool) =>
  (await takeFromLimits(pool, { projectId, model, tokens })).admitted;

test('of many at once, over two pools, as many get in as the limit says', async () => {
  await limit('all', { requestsPerMinute: 50 });
  const begun = performance.now();
  const admitted = await Promise.all(
    Array.from({ length: 200 }, (_, i) => take(1, 'm', i % 2 === 0 ? database.pool : other)),
  );
  const drained = ((performance.now() - begun) / 60_000) * 50;
  const count = admitted.filter(Boolean).length;
  expect(count).toBeGreaterThanOrEqual(50);
  expect(count).toBeLessThanOrEqual(50 + Math.ceil(drained));
});

test('two limits at once never lock each other out, and both hold', async () => {
  await limit('all', { requestsPerDay: 30 });
  await limit('m', { requestsPerDay: 20 });
  await limit('a', { requestsPerDay: 20 });
  const takes = Array.from({ length: 120 }, (_, i) =>
    take(1, i % 2 === 0 ? 'm' : 'a', i % 3 === 0 ? database.pool : other),
  );
  const settles = Array.from({ length: 20 }, () =>
    settleTokens(
      other,
      ['m', 'all', 'a'].map(model => ({ projectId, model, tokens: 1 })),
    ),
  );
  const admitted = await Promise.all(takes);
  await Promise.all(settles);
  expect(admitted.filter(Boolean)).toHaveLength(30);
});

test('a request that one limit refuses takes nothing from the others', async () => {
  await limit('all', { requestsPerMinute: 1 });
  await limit('m', { tokensPerMinute: 100 });
  expect(await take(60)).toBe(true);
  expect(await take(30)).toBe(false);
  const { limits } = await takeFromLimits(database.pool, { projectId, model: 'm', tokens: 0 });
  expect(limits.map(held => [held.model, Math.round(held.usedTokens / 20)])).toEqual([
    ['all', 0],
    ['m', 3],
  ]);
});

test('a bucket drains evenly', async () => {
  await limit('all', { tokensPerMinute: 600 });
  expect(await take(600)).toBe(true);
  expect(await take(100)).toBe(false);
  await database.pool.query("update rate_limits set used_at = used_at - interval '10 seconds'");
  expect(await take(150)).toBe(false);
  expect(await take(100)).toBe(true);
  expect(await take(100)).toBe(false);
});

test('what a request took less is given back, and what it took more is owed', async () => {
  await limit('all', { tokensPerMinute: 600 });
  expect(await take(600)).toBe(true);
  await settleTokens(other, [{ projectId, model: 'all', tokens: -500 }]);
  expect(await take(400)).toBe(true);
  await settleTokens(other, [{ projectId, model: 'all', tokens: 400 }]);
  expect(await take(1)).toBe(false);
  await settleTokens(other, [{ projectId, model: 'all', tokens: -1e6 }]);
  expect(await take(600)).toBe(true);
});

test('other models, other projects, and what is not limited, get in', async () => {
  await limit('m', { requestsPerMinute: 0 });
  expect(await take(1, 'm')).toBe(false);
  expect(await take(1, 'n')).toBe(true);
  const elsewhere = await takeFromLimits(database.pool, { projectId: 'proj_x', model: 'm', tokens: 1 });
  expect(elsewhere).toEqual({ admitted: true, limits: [] });
});

test('a limit that is changed keeps what was used; one that is taken away is forgotten', async () => {
  await limit('all', { requestsPerDay: 1 });
  expect(await take()).toBe(true);
  await limit('all', { requestsPerDay: 2 });
  expect([await take(), await take()]).toEqual([true, false]);
  await limit('all', {});
  expect(await take()).toBe(true);
});
