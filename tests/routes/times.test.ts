// Times in requests that no clock will show are the caller's mistake, wherever a request may give one.
import { expect, test } from 'vitest';
import { useServer } from '../support/server.ts';

const server = useServer();
const FIRST_REFUSED = 253_402_300_800; // the year 10000

const read = (path: string) =>
  fetch(`${server.url}/v1/organization/${path}`, { headers: { authorization: `Bearer ${server.adminKey}` } });

test.each([
  ['start_time', (time: number) => `usage/completions?start_time=${time}&end_time=${time + 1}`],
  ['start_time', (time: number) => `costs?start_time=${time}&end_time=${time + 1}`],
  ['end_time', (time: number) => `costs?start_time=1&end_time=${time}`],
  ['effective_at.gte', (time: number) => `audit_logs?effective_at[gte]=${time}`],
  ['effective_at.lt', (time: number) => `audit_logs?effective_at[lt]=${time}`],
])('%s of %s', async (param, path) => {
  for (const time of [FIRST_REFUSED, Number.MAX_SAFE_INTEGER]) {
    const answer = await read(path(time));
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { param, code: 'integer_above_max_value' } });
  }
  expect((await read(path(FIRST_REFUSED - 2))).status).toBe(200);
  expect((await read(path(-1))).status).toBe(400);
});

test.each(['created_after', 'created_before'])('%s of a run of an evaluation', async name => {
  const { id } = await server.client.evals.create({
    data_source_config: { type: 'logs' },
    testing_criteria: [{ type: 'string_check', name: 'a', input: 'a', reference: 'a', operation: 'eq' }],
  });
  for (const type of ['responses', 'stored_completions'] as const) {
    const source = { type, [name]: FIRST_REFUSED };
    const body = { data_source: { type: type === 'responses' ? type : 'completions', source } };
    await expect(server.client.post(`/evals/${id}/runs`, { body })).rejects.toMatchObject({
      status: 400,
      param: `data_source.source.${name}`,
    });
  }
});
