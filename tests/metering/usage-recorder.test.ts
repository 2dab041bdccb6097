import pg from 'pg';
import pino from 'pino';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { openUsageRecorder } from '../../src/metering/usage-recorder.ts';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const log = pino({ level: 'silent' });
const labels = { kind: 'completions', projectId: 'proj_default', apiKeyId: 'key_a', batch: false } as const;
const counts = { requests: 1, inputTokens: 10, cachedTokens: 4, outputTokens: 3 };
const open = () => openUsageRecorder({ pool: database.pool, log, intervalMs: 60_000 });

beforeAll(() => ensureDefaultProject(database.pool));
afterEach(async () => {
  vi.useRealTimers();
  await database.pool.query('delete from usage');
});

async function written() {
  const { rows } = await database.pool.query(
    'select model, sum(requests)::int as requests, sum(input_tokens)::int as input, sum(cached_tokens)::int as cached, sum(output_tokens)::int as output from usage group by model order by model',
  );
  return rows;
}

test('what is recorded is added up, in memory and in the database', async () => {
  const recorders = [open(), open()];
  for (const recorder of recorders) {
    for (let i = 0; i < 3; i++) recorder.record({ ...labels, model: 'a' }, counts);
    recorder.record({ ...labels, model: 'b' }, counts);
  }
  expect(await written()).toEqual([]);
  for (const recorder of recorders) await recorder.close();
  expect(await written()).toEqual([
    { model: 'a', requests: 6, input: 60, cached: 24, output: 18 },
    { model: 'b', requests: 2, input: 20, cached: 8, output: 6 },
  ]);
});

test('what could not be written is written later, once', async () => {
  const recorder = open();
  recorder.record({ ...labels, model: 'a' }, counts);
  const refuse = vi.spyOn(database.pool, 'connect').mockRejectedValueOnce(new Error('away') as never);
  await expect(recorder.flush()).rejects.toThrow('away');
  refuse.mockRestore();
  recorder.record({ ...labels, model: 'a' }, counts);
  await Promise.all([recorder.flush(), recorder.flush()]);
  await recorder.close();
  expect(await written()).toEqual([{ model: 'a', requests: 2, input: 20, cached: 8, output: 6 }]);
});

test('while the database is away one write waits, not one for every second', async () => {
  const refuse = vi.spyOn(database.pool, 'connect').mockImplementation((async () => {
    await new Promise(done => setTimeout(done, 100));
    throw new Error('away');
  }) as never);
  const recorder = openUsageRecorder({ pool: database.pool, log, intervalMs: 5 });
  recorder.record({ ...labels, model: 'a' }, counts);
  await new Promise(done => setTimeout(done, 350));
  expect(refuse.mock.calls.length).toBeLessThan(6);
  refuse.mockRestore();
  const begun = performance.now();
  await recorder.close();
  expect(performance.now() - begun).toBeLessThan(2000);
  expect(await written()).toHaveLength(1);
});

test('it is written by itself', async () => {
  const recorder = openUsageRecorder({ pool: database.pool, log, intervalMs: 20 });
  recorder.record({ ...labels, model: 'a' }, counts);
  await vi.waitFor(async () => expect(await written()).toHaveLength(1));
  await recorder.close();
});

test('many processes that write the same rows at once do not lock each other out', async () => {
  const pools = Array.from({ length: 4 }, () => new pg.Pool({ connectionString: database.url }));
  const recorders = pools.map(pool => openUsageRecorder({ pool, log, intervalMs: 60_000 }));
  const models = Array.from({ length: 40 }, (_, i) => `m${i}`);
  for (let round = 0; round < 10; round++) {
    recorders.forEach((recorder, i) => {
      const order = i % 2 === 0 ? models : models.toReversed();
      for (const model of order) recorder.record({ ...labels, model }, counts);
    });
    await Promise.all(recorders.map(recorder => recorder.flush()));
  }
  await Promise.all(recorders.map(recorder => recorder.close()));
  await Promise.all(pools.map(pool => pool.end()));
  const rows = await written();
  expect(rows).toHaveLength(40);
  for (const row of rows) expect(row.requests).toBe(40);
});
