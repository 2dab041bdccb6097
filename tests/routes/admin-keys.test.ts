import OpenAI from 'openai';
import { expect, test } from 'vitest';
import { useServer } from '../support/server.ts';

const server = useServer();
const keys = () => server.admin.adminAPIKeys;
const adminOf = (adminAPIKey: string) =>
  new OpenAI({ adminAPIKey, baseURL: `${server.url}/v1`, maxRetries: 0 }).admin.organization;

test('an admin key is created, works, is listed without its value, and stops when deleted', async () => {
  const { value, ...key } = await keys().create({ name: 'billing' });
  expect(value).toMatch(/^sk-admin-/);
  expect(key).toEqual({
    id: expect.stringMatching(/^key_/),
    object: 'organization.admin_api_key',
    name: 'billing',
    redacted_value: `sk-admin-...${value.slice(-4)}`,
    created_at: expect.any(Number),
    last_used_at: null,
    expires_at: null,
    owner: expect.objectContaining({ type: 'user', role: 'owner' }),
  });
  await adminOf(value).projects.list();
  expect(await keys().retrieve(key.id)).toEqual({ ...key, last_used_at: expect.any(Number) });
  expect(await keys().delete(key.id)).toEqual({
    id: key.id,
    object: 'organization.admin_api_key.deleted',
    deleted: true,
  });
  await expect(adminOf(value).projects.list()).rejects.toMatchObject({ status: 401 });
  await expect(keys().retrieve(key.id)).rejects.toMatchObject({ status: 404, param: 'key_id' });
});

test('in pages, in either order', async () => {
  const { id: last } = await keys().create({ name: 'last', expires_in_seconds: 60 });
  for (const order of ['asc', 'desc'] as const) {
    const ids = [];
    for await (const key of keys().list({ order, limit: 1 })) ids.push(key.id);
    expect(ids).toHaveLength(2);
    expect(ids.indexOf(last)).toBe(order === 'asc' ? 1 : 0);
  }
});

test('only its hash is kept, and it ends when its time is over', async () => {
  const { id, value } = await keys().create({ name: 'short', expires_in_seconds: 60 });
  const { rows } = await server.database.pool.query('select * from admin_keys');
  expect(JSON.stringify(rows)).not.toContain(value);
  await adminOf(value).projects.list();
  await server.database.pool.query('update admin_keys set expires_at = now() where id = $1', [id]);
  await expect(adminOf(value).projects.list()).rejects.toMatchObject({ status: 401 });
});
