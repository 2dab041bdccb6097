import OpenAI from 'openai';
import { beforeAll, expect, test } from 'vitest';
import { missingScope } from '../../src/schemas/scopes.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const keys = () => server.admin.projects.apiKeys;
const clientOf = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${server.url}/v1`, maxRetries: 0 });
let project_id = '';
let account = '';

beforeAll(async () => {
  project_id = (await server.admin.projects.create({ name: 'Support' })).id;
  account = (await server.admin.projects.serviceAccounts.create(project_id, { name: 'router' })).id;
});

const newKey = (restrictions: { scopes?: string[]; expires_in_seconds?: number } = {}) =>
  server.admin.projects.serviceAccounts.apiKeys.create(account, { project_id, ...restrictions });

test('keys are shown by their ends, with their owner and their last use', async () => {
  const { id, value } = await newKey({ scopes: ['api.model.read'] });
  await clientOf(value).models.list();
  const key = await keys().retrieve(id, { project_id });
  expect(key).toEqual({
    id,
    object: 'organization.project.api_key',
    name: 'router',
    redacted_value: `sk-svcacct-...${value.slice(-4)}`,
    created_at: expect.any(Number),
    last_used_at: expect.any(Number),
    expires_at: null,
    scopes: ['api.model.read'],
    owner: {
      type: 'service_account',
      service_account: { id: account, name: 'router', role: 'member', created_at: expect.any(Number) },
    },
    owner_project_access: 'active',
  });
  expect(JSON.stringify(key)).not.toContain(value);
  const listed = [];
  for await (const one of keys().list(project_id, { limit: 1 })) listed.push(one.id);
  expect(listed).toContain(id);
  expect(listed.length).toBeGreaterThan(1);
});

test('a key that was made at the command line is the operator’s', async () => {
  const { data } = await keys().list('proj_default');
  expect(data.map(key => key.owner)).toEqual([
    { type: 'user', user: expect.objectContaining({ id: 'user-operator', role: 'owner' }) },
  ]);
});

test('a deleted key stops at once', async () => {
  const { id, value } = await newKey();
  await clientOf(value).models.list();
  expect(await keys().delete(id, { project_id })).toMatchObject({ id, deleted: true });
  await expect(clientOf(value).models.list()).rejects.toMatchObject({ status: 401 });
  for (const again of [() => keys().delete(id, { project_id }), () => keys().retrieve(id, { project_id })])
    await expect(again()).rejects.toMatchObject({ status: 404, param: 'api_key_id' });
});

test('a key ends when its time is over', async () => {
  const { id, value } = await newKey({ expires_in_seconds: 3600 });
  await clientOf(value).models.list();
  await server.database.pool.query(
    "update api_keys set expires_at = now() - interval '1 second' where id = $1",
    [id],
  );
  await expect(clientOf(value).models.list()).rejects.toMatchObject({ status: 401 });
  await expect(keys().update(id, { project_id, expires_in_seconds: 60 })).rejects.toMatchObject({
    status: 400,
    message: expect.stringContaining('has expired'),
  });
});

test('scopes hold from the next request on', async () => {
  const { id, value } = await newKey({ scopes: ['api.model.read'] });
  const client = clientOf(value);
  expect((await client.models.list()).data[0]!.id).toBe(BASE_MODEL);
  await expect(client.files.list()).rejects.toMatchObject({
    status: 403,
    code: 'insufficient_permissions',
    message: expect.stringContaining('Missing scopes: api.files.read.'),
  });
  await expect(client.models.delete(BASE_MODEL)).rejects.toMatchObject({
    message: expect.stringContaining('Missing scopes: api.model.write.'),
  });
  const changed = await keys().update(id, { project_id, scopes: ['api.all.read'], expires_in_seconds: 600 });
  expect(changed).toMatchObject({ scopes: ['api.all.read'], expires_at: expect.any(Number) });
  await client.files.list();
  expect(await keys().update(id, { project_id, scopes: [] })).toMatchObject({
    scopes: [],
    expires_at: changed.expires_at,
  });
  await expect(client.models.delete(BASE_MODEL)).rejects.toMatchObject({
    status: 403,
    code: 'permission_denied',
  });
});

test('scopes that are none, and changes that change nothing, are refused', async () => {
  const { id } = await newKey();
  await expect(newKey({ scopes: ['api.everything'] })).rejects.toMatchObject({
    status: 400,
    param: 'scopes[0]',
  });
  await expect(keys().update(id, { project_id })).rejects.toMatchObject({ status: 400 });
  await expect(newKey({ expires_in_seconds: 0 })).rejects.toMatchObject({ param: 'expires_in_seconds' });
});

test.each([
  [['api.model.request'], 'POST', '/v1/chat/completions', null],
  [['api.model.request'], 'POST', '/v1/embeddings', null],
  [['api.model.request'], 'GET', '/v1/chat/completions?limit=1', 'api.model.read'],
  [['api.files.write'], 'POST', '/v1/uploads/u/parts', null],
  [['api.files.write'], 'GET', '/v1/files', 'api.files.read'],
  [['api.all.read'], 'GET', '/v1/something/new', null],
  [['api.all.read'], 'DELETE', '/v1/files/f', 'api.files.write'],
  [['api.fine_tuning.read'], 'POST', '/v1/fine_tuning/jobs', 'api.fine_tuning.write'],
  [[], 'DELETE', '/v1/anything', null],
])('%j, %s %s: missing %s', (scopes, method, url, missing) => {
  expect(missingScope(scopes, { method, url })).toBe(missing);
});
