import { expect, test } from 'vitest';
import { ensureKeys } from '../../src/api-key.ts';
import { findAdminCaller, revokeAdminKey } from '../../src/store/admin-keys.ts';
import { findCaller } from '../../src/store/api-keys.ts';
import { listAuditLogs } from '../../src/store/audit-logs.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const adminKey = 'sk-admin-0123456789';

test('the first start makes a key, and the admin key that is named', async () => {
  const secret = await ensureKeys(database.url, { apiKey: null, adminKey });
  expect(await findCaller(database.pool, secret!)).toMatchObject({ projectId: 'proj_default', scopes: [] });
  expect(await findAdminCaller(database.pool, adminKey)).toMatch(/^key_/);
  expect(await findCaller(database.pool, adminKey)).toBeNull();
  expect(await findAdminCaller(database.pool, secret!)).toBeNull();
});

test('later starts make none, and bring none back that was revoked', async () => {
  const id = (await findAdminCaller(database.pool, adminKey))!;
  await revokeAdminKey(database.pool, id);
  expect(await ensureKeys(database.url, { apiKey: null, adminKey })).toBeNull();
  expect(await findAdminCaller(database.pool, adminKey)).toBeNull();
  const { rows } = await listAuditLogs(database.pool, { limit: 10 });
  expect(rows.map(entry => entry.type)).toEqual(['api_key.created', 'api_key.created']);
});
