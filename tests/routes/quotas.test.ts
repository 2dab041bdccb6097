import supertest from 'supertest';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const path = '/v1/organization/projects/proj_default/quotas';
const line = '{"messages": []}\n';
const fileOf = (bytes: number) => new File([line.padEnd(bytes, '\n')], 'a.jsonl');
const upload = (bytes: number) => server.client.files.create({ file: fileOf(bytes), purpose: 'fine-tune' });
const set = (quotas: object) =>
  supertest(server.url).post(path).auth(server.adminKey, { type: 'bearer' }).send(quotas).expect(200);
const noRoom = { status: 429, type: 'insufficient_quota', code: 'insufficient_quota' };
let training_file = '';

beforeAll(async () => {
  training_file = (await upload(1000)).id;
});
afterEach(() => set({ max_active_jobs: null, max_stored_bytes: null }));

const objectsStored = async () => {
  const keys = [];
  for await (const object of server.deps.blobs.list('files/')) keys.push(object);
  return keys.length;
};

test('they are shown with what there is', async () => {
  const { body } = await set({ max_stored_bytes: 5000 });
  expect(body).toEqual({
    object: 'organization.project.quotas',
    project_id: 'proj_default',
    max_active_jobs: null,
    max_stored_bytes: 5000,
    active_jobs: 0,
    stored_bytes: 1000,
  });
  expect((await set({ max_active_jobs: 1 })).body).toMatchObject({
    max_active_jobs: 1,
    max_stored_bytes: 5000,
  });
});

test('of two changes at once neither takes the other back', async () => {
  for (let i = 1; i <= 10; i++) {
    await Promise.all([set({ max_active_jobs: i }), set({ max_stored_bytes: 5000 + i })]);
    expect((await set({})).body).toMatchObject({ max_active_jobs: i, max_stored_bytes: 5000 + i });
  }
});

test('a file that does not fit is refused, and nothing of it stays', async () => {
  await set({ max_stored_bytes: 3000 });
  const before = await objectsStored();
  await expect(upload(2001)).rejects.toMatchObject({
    ...noRoom,
    message: expect.stringContaining('may store 3000 bytes'),
  });
  await expect(upload(3 * 2 ** 20)).rejects.toMatchObject(noRoom);
  expect(await objectsStored()).toBe(before);
  const { id } = await upload(2000);
  await expect(upload(20)).rejects.toMatchObject(noRoom);
  await server.client.files.delete(id);
  await server.client.files.delete((await upload(20)).id);
});

test('a project without any room refuses files of all sizes, and whoever sends them hears of it', async () => {
  await set({ max_stored_bytes: 10 });
  for (const bytes of [20, 100_000, 20 * 2 ** 20]) await expect(upload(bytes)).rejects.toMatchObject(noRoom);
});

test('of several at once only as many are kept as fit', async () => {
  await set({ max_stored_bytes: 3000 });
  const before = await objectsStored();
  const results = await Promise.allSettled(Array.from({ length: 6 }, () => upload(900)));
  const kept = results.flatMap(result => (result.status === 'fulfilled' ? [result.value.id] : []));
  expect(kept).toHaveLength(2);
  expect(await objectsStored()).toBe(before + 2);
  for (const id of kept) await server.client.files.delete(id);
});

test('an upload in parts counts by what it announces', async () => {
  await set({ max_stored_bytes: 3000 });
  const announce = (bytes: number) =>
    server.client.uploads.create({
      bytes,
      filename: 'a.jsonl',
      mime_type: 'text/jsonl',
      purpose: 'fine-tune',
    });
  await expect(announce(2001)).rejects.toMatchObject(noRoom);
  const { id } = await announce(2000);
  await expect(upload(20)).rejects.toMatchObject(noRoom);
  const part = await server.client.uploads.parts.create(id, { data: fileOf(2000) });
  const { file } = await server.client.uploads.complete(id, { part_ids: [part.id] });
  await expect(upload(20)).rejects.toMatchObject(noRoom);
  await server.client.files.delete(file!.id);
});

test('jobs that have not ended, also of several that come at once', async () => {
  await set({ max_active_jobs: 2 });
  const create = () => server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file });
  const results = await Promise.allSettled(Array.from({ length: 5 }, create));
  const made = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
  expect(made).toHaveLength(2);
  const refused = results.find(result => result.status === 'rejected')!.reason;
  expect(refused).toMatchObject({ ...noRoom, message: expect.stringContaining('has 2 jobs') });
  expect(refused.headers.get('x-should-retry')).toBe('false');
  await server.client.fineTuning.jobs.cancel(made[0]!.id);
  await create();
  await expect(create()).rejects.toMatchObject(noRoom);
});

test('a project without room makes no jobs', async () => {
  await set({ max_stored_bytes: 1000 });
  const create = () => server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file });
  await expect(create()).rejects.toMatchObject(noRoom);
});
