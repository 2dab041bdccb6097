import OpenAI from 'openai';
import { beforeAll, expect, test } from 'vitest';
import { useServer } from '../support/server.ts';

const server = useServer();
const accounts = () => server.admin.projects.serviceAccounts;
const clientOf = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${server.url}/v1`, maxRetries: 0 });
let project_id = '';

beforeAll(async () => {
  project_id = (await server.admin.projects.create({ name: 'Support' })).id;
});

test('it is created with a key of its project, which is shown once', async () => {
  const account = await accounts().create(project_id, { name: 'router' });
  expect(account).toEqual({
    id: expect.stringMatching(/^svc_acct_/),
    object: 'organization.project.service_account',
    name: 'router',
    role: 'member',
    created_at: expect.any(Number),
    api_key: {
      id: expect.stringMatching(/^key_/),
      object: 'organization.project.service_account.api_key',
      name: 'router',
      value: expect.stringMatching(/^sk-svcacct-/),
      created_at: expect.any(Number),
      expires_at: null,
    },
  });
  const own = clientOf(account.api_key!.value);
  const file = await own.files.create({ file: new File(['{}\n'], 'a.jsonl'), purpose: 'fine-tune' });
  await expect(server.client.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
  const { api_key: _, ...shown } = account;
  expect(await accounts().retrieve(account.id, { project_id })).toEqual(shown);
  expect((await accounts().list(project_id)).data).toContainEqual(shown);
});

test('without a key, when nothing else is wanted', async () => {
  const account = await accounts().create(project_id, { name: 'later', create_service_account_only: true });
  expect(account).toMatchObject({ role: 'none', api_key: null });
  const both = { name: 'x', create_service_account_only: true, expires_in_seconds: 60 };
  await expect(accounts().create(project_id, both)).rejects.toMatchObject({
    status: 400,
    param: 'expires_in_seconds',
  });
});

test('is renamed; when it is deleted, its keys stop at once', async () => {
  const { id, api_key } = await accounts().create(project_id, { name: 'short' });
  const second = await accounts().apiKeys.create(id, { project_id, name: 'second' });
  expect(await accounts().update(id, { project_id, name: 'long', role: 'owner' })).toMatchObject({
    name: 'long',
    role: 'owner',
  });
  await clientOf(second.value).models.list();
  expect(await accounts().delete(id, { project_id })).toEqual({
    id,
    object: 'organization.project.service_account.deleted',
    deleted: true,
  });
  for (const key of [api_key!.value, second.value])
    await expect(clientOf(key).models.list()).rejects.toMatchObject({ status: 401 });
  await expect(accounts().retrieve(id, { project_id })).rejects.toMatchObject({
    status: 404,
    param: 'service_account_id',
  });
});

test("another project's is unknown", async () => {
  const { id } = await accounts().create(project_id, { name: 'mine' });
  await expect(accounts().retrieve(id, { project_id: 'proj_default' })).rejects.toMatchObject({
    status: 404,
  });
  await expect(accounts().create('proj_x', { name: 'x' })).rejects.toMatchObject({ param: 'project_id' });
});
