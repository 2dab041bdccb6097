import { beforeAll, expect, test } from 'vitest';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import { addUsage, coarsenUsage, sumUsage } from '../../src/store/usage.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const labels = { kind: 'completions', projectId: 'proj_default', apiKeyId: 'key_a', batch: false } as const;
const counts = { requests: 1, inputTokens: 10, cachedTokens: 2, outputTokens: 5 };
const at = (time: string) => new Date(`2026-03-01T${time}:00Z`);

beforeAll(async () => {
  await ensureDefaultProject(database.pool);
  const times = ['09:00', '09:01', '09:59', '10:30', '12:15', '12:45'];
  await addUsage(
    database.pool,
    times.flatMap(time => ['a', 'b'].map(model => ({ ...labels, ...counts, model, minute: at(time) }))),
  );
});

const rows = async () => {
  const { rows } = await database.pool.query(
    "select to_char(minute at time zone 'utc', 'HH24:MI') as time, requests from usage where model = 'a' order by 1",
  );
  return rows.map(({ time, requests }) => `${time} ${requests}`);
};
const sums = (widthSeconds: number) =>
  sumUsage(database.pool, 'completions', { from: at('00:00'), until: at('23:00'), widthSeconds }, ['model']);

test('old minutes become hours, once, and no sum by hours or days changes', async () => {
  const before = [await sums(3600), await sums(86_400)];
  expect(await coarsenUsage(database.pool, at('12:30'))).toBe(6);
  expect(await rows()).toEqual(['09:00 3', '10:00 1', '12:15 1', '12:45 1']);
  expect(await coarsenUsage(database.pool, at('12:30'))).toBe(0);
  expect([await sums(3600), await sums(86_400)]).toEqual(before);
  await addUsage(database.pool, [{ ...labels, ...counts, model: 'a', minute: at('09:20') }]);
  await coarsenUsage(database.pool, at('13:00'));
  expect(await rows()).toEqual(['09:00 4', '10:00 1', '12:00 2']);
});
