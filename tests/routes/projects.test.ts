import OpenAI from 'openai';
import supertest from 'supertest';
import { expect, test } from 'vitest';
import { useServer } from '../support/server.ts';

const server = useServer();
const projects = () => server.admin.projects;
const clientOf = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${server.url}/v1`, maxRetries: 0 });

test('a project is created, found, renamed, listed', async () => {
  const project = await projects().create({ name: 'Support' });
  expect(project).toEqual({
    id: expect.stringMatching(/^proj_/),
    object: 'organization.project',
    name: 'Support',
    created_at: expect.any(Number),
    archived_at: null,
    status: 'active',
  });
  expect(await projects().retrieve(project.id)).toEqual(project);
  expect(await projects().update(project.id, { name: 'Customers' })).toEqual({
    ...project,
    name: 'Customers',
  });
  expect(await projects().update(project.id, {})).toEqual({ ...project, name: 'Customers' });
  const names = [];
  for await (const { name } of projects().list({ limit: 1 })) names.push(name);
  expect(names).toEqual(['default', 'other', 'Customers']);
});

test('an archived project: its keys stop at once, it cannot be changed, and lists leave it out', async () => {
  const { id } = await projects().create({ name: 'Old' });
  const { api_key: key } = await projects().serviceAccounts.create(id, { name: 'worker' });
  await clientOf(key!.value).models.list();
  const archived = await projects().archive(id);
  expect(archived).toMatchObject({ status: 'archived', archived_at: expect.any(Number) });
  await expect(clientOf(key!.value).models.list()).rejects.toMatchObject({
    status: 401,
    code: 'invalid_api_key',
  });
  for (const change of [
    () => projects().archive(id),
    () => projects().update(id, { name: 'x' }),
    () => projects().serviceAccounts.create(id, { name: 'x' }),
  ])
    await expect(change()).rejects.toMatchObject({ status: 400, param: 'project_id' });
  const ids = async (query = {}) => (await projects().list(query)).data.map(project => project.id);
  expect(await ids()).not.toContain(id);
  expect(await ids({ include_archived: true })).toContain(id);
});

test('the default project stays', async () => {
  await expect(projects().archive('proj_default')).rejects.toMatchObject({ status: 400 });
});

test('what a project cannot have is refused by name', async () => {
  await expect(projects().create({ name: '' })).rejects.toMatchObject({ status: 400, param: 'name' });
  await expect(projects().create({ name: 'x', residency: 'GLOBAL' })).rejects.toMatchObject({
    status: 400,
    param: 'residency',
  });
  await expect(projects().retrieve('proj_x')).rejects.toMatchObject({ status: 404, param: 'project_id' });
});

test('the administration needs an admin key, and an admin key does nothing else', async () => {
  const get = (path: string, key: string) => supertest(server.url).get(path).auth(key, { type: 'bearer' });
  for (const [path, key] of [
    ['/v1/organization/projects', server.key],
    ['/v1/files', server.adminKey],
  ] as const) {
    const { status, body } = await get(path, key);
    expect([status, body.error.code]).toEqual([403, 'insufficient_permissions']);
  }
  await get('/v1/organization/projects', 'sk-admin-nobody').expect(401);
  await supertest(server.url).get('/v1/organization/projects').expect(401);
});
