import type OpenAI from 'openai';
import { beforeAll, expect, test, vi } from 'vitest';
import { insertJob } from '../../src/store/jobs.ts';
import { fakeGeneration } from '../support/fake-generation.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const DAY = 86_400;
const today = Math.floor(Date.now() / 1000 / DAY) * DAY;
const server = useServer({
  deps: () => ({ generation: fakeGeneration({ promptTokens: 10, completionTokens: 4 }) }),
});
const usage = () => server.admin.usage;
const chat = { model: BASE_MODEL, messages: [{ role: 'user' as const, content: 'Hi' }] };
let keyId = '';

/** An answer is noted when its connection has the last of it. */
async function flushed(requests: number): Promise<void> {
  const { usage: recorder } = server.deps;
  await vi.waitFor(() => expect(recorder.totals()).toMatchObject([{ requests }]));
  await recorder.flush();
}

beforeAll(async () => {
  const { chat: chats, completions } = server.client;
  for (let i = 0; i < 2; i++) await chats.completions.create(chat);
  for await (const _ of await chats.completions.create({ ...chat, stream: true }));
  await completions.create({ model: BASE_MODEL, prompt: ['a', 'b', 'c'] });
  await server.otherClient.chat.completions.create(chat);
  await expect(chats.completions.create({ ...chat, model: 'nobody' })).rejects.toThrow(/does not exist/);
  const { pool } = server.database;
  keyId = (await pool.query('select id from api_keys where project_id = $1', [server.projectId])).rows[0].id;
  const job = await insertJob(pool, {
    projectId: server.projectId,
    apiKeyId: keyId,
    model: BASE_MODEL,
    trainingFile: 'file-x',
    validationFile: null,
    suffix: null,
    seed: 1,
    metadata: null,
    integrations: null,
    method: { type: 'supervised', supervised: { hyperparameters: {} } },
  } as never);
  await pool.query(
    "update jobs set status = 'succeeded', finished_at = now(), trained_tokens = 5000 where id = $1",
    [job.id],
  );
  await flushed(5);
});

const sum = {
  object: 'organization.usage.completions.result',
  input_cached_tokens: 0,
  input_audio_tokens: 0,
  output_audio_tokens: 0,
  project_id: null,
  user_id: null,
  api_key_id: null,
  model: null,
  batch: null,
  service_tier: null,
};

test('whole answers, streams and several prompts are counted once each, failures not', async () => {
  const page = await usage().completions({ start_time: today });
  expect(page).toEqual({
    object: 'page',
    has_more: false,
    next_page: null,
    data: [
      {
        object: 'bucket',
        start_time: today,
        end_time: today + DAY,
        results: [{ ...sum, num_model_requests: 5, input_tokens: 70, output_tokens: 28 }],
      },
    ],
  });
});

test('groups', async () => {
  const { data } = await usage().completions({
    start_time: today,
    group_by: ['project_id', 'api_key_id', 'model', 'batch', 'service_tier'],
  });
  expect(data[0]!.results).toHaveLength(2);
  expect(data[0]!.results).toContainEqual({
    ...sum,
    num_model_requests: 4,
    input_tokens: 60,
    output_tokens: 24,
    project_id: server.projectId,
    api_key_id: keyId,
    model: BASE_MODEL,
    batch: false,
    service_tier: 'default',
  });
});

test.each([
  [{ project_ids: ['proj_default'] }, 4],
  [{ models: [BASE_MODEL] }, 5],
  [{ models: ['nobody'] }, 0],
  [{ batch: true }, 0],
  [{ batch: false }, 5],
  [{ user_ids: ['user-x'] }, 0],
  [{ bucket_width: '1m' as const, start_time: today, limit: 1440 }, 5],
  [{ bucket_width: '1h' as const, end_time: today + DAY }, 5],
])('only %j', async (filter, requests) => {
  const { data } = await usage().completions({ start_time: today, ...filter });
  const results = data.flatMap(bucket => bucket.results) as { num_model_requests: number }[];
  expect(results.reduce((total, result) => total + result.num_model_requests, 0)).toBe(requests);
});

test('buckets lie on whole days, come in pages, and are there when they are empty', async () => {
  const query = { start_time: today - 9 * DAY + 5000 };
  const first = await usage().completions(query);
  expect(first.data.map(bucket => bucket.start_time)).toEqual(
    Array.from({ length: 7 }, (_, i) => today + (i - 9) * DAY),
  );
  expect(first.has_more).toBe(true);
  const second = await usage().completions({ ...query, page: first.next_page! });
  expect(second.data.map(bucket => bucket.start_time)).toEqual([today - 2 * DAY, today - DAY, today]);
  expect(second.data.map(bucket => bucket.results.length)).toEqual([0, 0, 1]);
  expect(second).toMatchObject({ has_more: false, next_page: null });
});

test.each([
  [{ limit: 32 }, 'limit'],
  [{ end_time: today }, 'end_time'],
  [{ page: 'page_x' }, 'page'],
  [{ group_by: ['colour'] }, 'group_by[0]'],
])('refuses %j', async (wrong, param) => {
  const query = { start_time: today, ...wrong } as OpenAI.Admin.Organization.UsageCompletionsParams;
  await expect(usage().completions(query)).rejects.toMatchObject({ status: 400, param });
});

test('other kinds', async () => {
  expect((await usage().embeddings({ start_time: today })).data[0]!.results).toEqual([]);
  expect((await usage().moderations({ start_time: today })).data[0]!.results).toEqual([]);
  const trained = await fetch(
    `${server.url}/v1/organization/usage/fine_tuning?start_time=${today}&group_by=model`,
    { headers: { authorization: `Bearer ${server.adminKey}` } },
  );
  expect(((await trained.json()) as { data: { results: object[] }[] }).data[0]!.results).toEqual([
    {
      object: 'organization.usage.fine_tuning.result',
      num_jobs: 1,
      trained_tokens: 5000,
      project_id: null,
      user_id: null,
      api_key_id: null,
      model: BASE_MODEL,
    },
  ]);
  const byKey = (key: string) =>
    fetch(
      `${server.url}/v1/organization/usage/fine_tuning?start_time=${today}&group_by=api_key_id&api_key_ids=${key}`,
      { headers: { authorization: `Bearer ${server.adminKey}` } },
    ).then(answer => answer.json() as Promise<{ data: { results: object[] }[] }>);
  expect((await byKey(keyId)).data[0]!.results).toMatchObject([
    { num_jobs: 1, api_key_id: keyId, model: null },
  ]);
  expect((await byKey('key_other')).data[0]!.results).toEqual([]);
  await expect(usage().images({ start_time: today })).rejects.toMatchObject({ status: 404 });
});

test('a request that is called within the process, as batches are, counts too', async () => {
  const url = '/v1/chat/completions';
  const headers = { authorization: `Bearer ${server.key}` };
  const { statusCode } = await server.app.inject({ method: 'POST', url, headers, payload: chat });
  expect(statusCode).toBe(200);
  await flushed(6);
  const { data } = await usage().completions({ start_time: today });
  expect(data[0]!.results).toMatchObject([{ num_model_requests: 6 }]);
});
