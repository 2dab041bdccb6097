import { beforeAll, expect, test } from 'vitest';
import { addUsage } from '../../src/store/usage.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const DAY = 86_400;
const today = Math.floor(Date.now() / 1000 / DAY) * DAY;
const server = useServer({
  environment: {
    ANNEAL_PRICES: JSON.stringify({
      [BASE_MODEL]: { input: 1, cached_input: 0.5, output: 10, training: 100 },
    }),
    ANNEAL_CURRENCY: 'eur',
  },
});
const model = `ft:${BASE_MODEL}:personal::a1B2c3D4`;

beforeAll(async () => {
  const { pool } = server.database;
  const counts = { requests: 1, inputTokens: 3000, cachedTokens: 1000, outputTokens: 500 };
  const row = { kind: 'completions', apiKeyId: 'key_a', model, batch: false, ...counts } as const;
  const other = (await server.admin.projects.create({ name: 'other' })).id;
  await addUsage(pool, [
    { ...row, projectId: server.projectId, minute: new Date(today * 1000) },
    { ...row, projectId: other, apiKeyId: 'key_b', minute: new Date((today + 60) * 1000) },
    { ...row, projectId: other, apiKeyId: 'key_b', model: 'free', minute: new Date(today * 1000) },
    { ...row, projectId: other, apiKeyId: 'key_b', minute: new Date((today - DAY) * 1000) },
  ]);
  const file = new File(['{}\n'], 'a.jsonl');
  const { id: training_file } = await server.client.files.create({ file, purpose: 'fine-tune' });
  const { id } = await server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file });
  await pool.query(
    "update jobs set status = 'succeeded', finished_at = to_timestamp($2), trained_tokens = 5000 where id = $1",
    [id, today + 3600],
  );
});

/** Of tokens that are read, from the cache, written: what one row of each costs. */
const [READ, CACHED, WRITTEN, TRAINED] = [2000e-6, 500e-6, 5000e-6, 0.5];

const costs = async (query: object) => {
  const page = await server.admin.usage.costs({ start_time: today, end_time: today + DAY, ...query });
  return page.data.map(bucket => bucket.results);
};
const amounts = async (query: object) =>
  (await costs(query)).flat().map(result => ('amount' in result ? result.amount!.value : null));

test('costs are what was used times the prices, by line item with how much it was', async () => {
  const [results] = await costs({ group_by: ['line_item'] });
  const cost = (item: string, tokens: number, value: number) => ({
    object: 'organization.costs.result',
    amount: { value: expect.closeTo(value, 12), currency: 'eur' },
    line_item: item,
    project_id: null,
    api_key_id: null,
    user_id: null,
    quantity: tokens,
    quantity_unit: 'tokens',
  });
  expect(results).toHaveLength(7);
  expect(results).toEqual(
    expect.arrayContaining([
      cost(`${model}, input_tokens`, 4000, 2 * READ),
      cost(`${model}, cached_input_tokens`, 2000, 2 * CACHED),
      cost(`${model}, output_tokens`, 1000, 2 * WRITTEN),
      cost(`${BASE_MODEL}, training_tokens`, 5000, TRAINED),
      cost('free, output_tokens', 500, 0),
    ]),
  );
});

test('filters and groups', async () => {
  const answers = READ + CACHED + WRITTEN;
  const close = (...values: number[]) => values.map(value => expect.closeTo(value, 12));
  expect(await amounts({})).toEqual(close(2 * answers + TRAINED));
  expect(await amounts({ api_key_ids: ['key_a'] })).toEqual(close(answers));
  expect(await amounts({ project_ids: [server.projectId] })).toEqual(close(answers + TRAINED));
  expect(await amounts({ line_items: [`${model}, output_tokens`] })).toEqual(close(2 * WRITTEN));
  expect((await amounts({ group_by: ['project_id'] })).toSorted()).toEqual(close(answers, answers + TRAINED));
  const { rows } = await server.database.pool.query('select api_key_id from jobs');
  const trainer = rows[0].api_key_id;
  const keys = (await costs({ group_by: ['api_key_id'] })).flat();
  expect(keys.map(result => ('api_key_id' in result ? result.api_key_id : 0))).toEqual(
    expect.arrayContaining(['key_a', 'key_b', trainer]),
  );
  expect(await amounts({ api_key_ids: [trainer] })).toEqual(close(TRAINED));
});

test('by day, in pages', async () => {
  const query = { start_time: today - DAY, limit: 1 };
  const first = await server.admin.usage.costs(query);
  expect(first.data).toMatchObject([{ start_time: today - DAY, results: [{ quantity: null }] }]);
  const second = await server.admin.usage.costs({ ...query, page: first.next_page! });
  expect(second.data).toMatchObject([{ start_time: today }]);
  expect(second.has_more).toBe(false);
  await expect(server.admin.usage.costs({ ...query, limit: 181 })).rejects.toMatchObject({ param: 'limit' });
});
