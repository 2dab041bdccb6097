// Requests that nobody waits for: let in when they fit, told how long it takes, or that it never will.
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { ApiError } from '../../src/errors.ts';
import { LimitReached, waitForRoom } from '../../src/metering/admission.ts';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import { writeRateLimit } from '../../src/store/rate-limits.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const projectId = 'proj_default';
const { signal } = new AbortController();

beforeAll(() => ensureDefaultProject(database.pool));
beforeEach(() => database.pool.query('delete from rate_limits'));

const limit = (tokensPerMinute: number) =>
  writeRateLimit(database.pool, {
    projectId,
    model: 'all',
    requestsPerMinute: null,
    tokensPerMinute,
    requestsPerDay: null,
  });
const take = (tokens: number, patienceSeconds: number, stop = signal) =>
  waitForRoom(database.pool, { projectId, model: 'm', tokens }, { patienceSeconds, signal: stop });

test('without limits it is let in, and told so', async () => {
  expect(await take(1e9, 0)).toBe(false);
});

test('it waits as long as it takes', async () => {
  await limit(60_000); // 1000 a second
  expect(await take(60_000, 0)).toBe(true);
  const begun = performance.now();
  expect(await take(300, 60)).toBe(true);
  expect(performance.now() - begun).toBeGreaterThan(100);
});

test('it is told when there is room, where that is too long', async () => {
  await limit(60);
  await take(60, 0);
  const error = await take(30, 5).catch(caught => caught);
  expect(error).toBeInstanceOf(LimitReached);
  expect(error.seconds).toBeGreaterThan(20);
  expect(error.seconds).toBeLessThanOrEqual(30);
  expect(error.retryAfterSeconds).toBe(Math.ceil(error.seconds));
});

test('what never fits is refused for good', async () => {
  await limit(60);
  const error = await take(61, 60).catch(caught => caught);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).not.toBeInstanceOf(LimitReached);
  expect(error).toMatchObject({ kind: 'rate_limit_exceeded', retryAfterSeconds: null });
});

test('it stops waiting when it is told to', async () => {
  await limit(60);
  await take(60, 0);
  const stop = new AbortController();
  const waiting = take(30, 60, stop.signal);
  stop.abort();
  await expect(waiting).rejects.toThrow('aborted');
});
