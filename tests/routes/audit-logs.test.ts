import type { AuditLogListParams } from 'openai/resources/admin/organization/audit-logs';
import supertest from 'supertest';
import { beforeAll, describe, expect, test } from 'vitest';
import { insertModel } from '../../src/store/models.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const model = `ft:${BASE_MODEL}:personal::a1B2c3D4`;
let projectId = '';
let accountId = '';
let keyId = '';

const logs = async (query: AuditLogListParams = {}) => (await server.admin.auditLogs.list(query)).data;
const types = async (query: AuditLogListParams = {}) => (await logs(query)).map(entry => entry.type);

beforeAll(async () => {
  const { projects } = server.admin;
  projectId = (await projects.create({ name: 'Support' })).id;
  const account = await projects.serviceAccounts.create(projectId, { name: 'router' });
  accountId = account.id;
  keyId = account.api_key!.id;
  await projects.update(projectId, { name: 'Customers' });
  await projects.apiKeys.update(keyId, { project_id: projectId, scopes: ['api.all.read'] });
  await projects.serviceAccounts.delete(accountId, { project_id: projectId });
  await projects.archive(projectId);
  await insertModel(server.database.pool, {
    id: model,
    projectId: server.projectId,
    kind: 'adapter',
    architecture: 'llama',
    baseModel: BASE_MODEL,
    jobId: null,
    step: null,
    ownedBy: 'personal',
    files: [],
  });
  await server.client.models.delete(model);
});

test('every act is there, newest first, with who did it and to what', async () => {
  expect(await types()).toEqual([
    'resource.deleted',
    'project.archived',
    'api_key.deleted',
    'service_account.deleted',
    'api_key.updated',
    'project.updated',
    'api_key.created',
    'service_account.created',
    'project.created',
  ]);
  const [deleted] = await logs({ event_types: ['resource.deleted'] });
  expect(deleted).toMatchObject({
    project: { id: server.projectId, name: 'default' },
    actor: { type: 'api_key', api_key: { id: expect.stringMatching(/^key_/), type: 'user' } },
    'resource.deleted': { id: model },
  });
  const [created] = await logs({ event_types: ['project.created'] });
  expect(created).toMatchObject({
    id: expect.stringMatching(/^audit_log-/),
    effective_at: expect.any(Number),
    project: { id: projectId, name: 'Customers' },
    'project.created': { id: projectId, data: { name: 'Support', title: 'Support' } },
  });
  const [updated] = await logs({ event_types: ['api_key.updated'] });
  expect(updated!['api_key.updated']).toEqual({
    id: keyId,
    changes_requested: { scopes: ['api.all.read'] },
  });
});

test('filters', async () => {
  expect(await types({ project_ids: [server.projectId] })).toEqual(['resource.deleted']);
  expect(await types({ resource_ids: [accountId] })).toEqual([
    'service_account.deleted',
    'service_account.created',
  ]);
  expect(await types({ event_types: ['api_key.created', 'api_key.deleted'] })).toHaveLength(2);
  expect(await types({ actor_ids: ['key_x'] })).toEqual([]);
  expect(await types({ actor_emails: ['nobody@example.com'] })).toEqual([]);
  const admin = (await server.admin.adminAPIKeys.list()).data[0]!.id;
  expect(await types({ actor_ids: [admin] })).toHaveLength(8);
  const [newest] = await logs({ limit: 1 });
  const at = newest!.effective_at;
  expect(await types({ effective_at: { gt: at } })).toEqual([]);
  expect(await types({ effective_at: { gte: at, lte: at } })).toContain('resource.deleted');
  expect(await types({ effective_at: { lt: at - 3600 } })).toEqual([]);
});

test('pages, forwards and back', async () => {
  const all = (await logs({ limit: 100 })).map(entry => entry.id);
  const paged = [];
  for await (const entry of server.admin.auditLogs.list({ limit: 2 })) paged.push(entry.id);
  expect(paged).toEqual(all);
  const before = await logs({ before: all[5]!, limit: 2 });
  expect(before.map(entry => entry.id)).toEqual(all.slice(3, 5));
});

describe('the address of a request that a proxy hands on', () => {
  const proxied = useServer({ environment: { ANNEAL_TRUST_PROXY: '10.0.0.0/8, 127.0.0.1' } });
  const addressSeenBy = async ({ url, admin }: typeof server) => {
    await supertest(url)
      .get('/v1/organization/projects')
      .auth('sk-admin-0123456789abcdef', { type: 'bearer' })
      .set('x-forwarded-for', '198.51.100.1, 203.0.113.7, 10.1.2.3')
      .expect(401);
    const { data } = await admin.auditLogs.list({ event_types: ['login.failed'], limit: 1 });
    return (data[0] as { actor: { session: { ip_address: string } } }).actor.session.ip_address;
  };

  test("is the one that the nearest proxy which is not trusted told, and the connection's own where none is", async () => {
    expect(await addressSeenBy(proxied)).toBe('203.0.113.7');
    expect(await addressSeenBy(server)).toBe('127.0.0.1');
  });
});

test('failed logins are noted, without the key, and not without end', async () => {
  const guess = () =>
    supertest(server.url)
      .get('/v1/organization/projects')
      .auth('sk-admin-0123456789abcdef', { type: 'bearer' });
  for (let i = 0; i < 130; i++) await guess().expect(401);
  const failed = await logs({ event_types: ['login.failed'], limit: 100 });
  expect(failed.length).toBeGreaterThanOrEqual(60);
  const { rows } = await server.database.pool.query("select 1 from audit_logs where type = 'login.failed'");
  expect(rows.length).toBeLessThanOrEqual(120); // the minute may have changed once
  expect(failed[0]).toMatchObject({
    actor: { type: 'session', session: { ip_address: '127.0.0.1' } },
    'login.failed': { error_code: 'invalid_api_key' },
  });
  expect(JSON.stringify(failed[0])).not.toContain('0123456789abcdef');
});

test('nothing is ever changed or taken out', async () => {
  for (const statement of [
    'update audit_logs set type = null',
    'delete from audit_logs',
    'truncate audit_logs',
  ])
    await expect(server.database.pool.query(statement)).rejects.toThrow(/only ever added to/);
});
