import { Command } from 'commander';
import { afterEach, expect, test, vi } from 'vitest';
import { addKeyCommands } from '../../src/cli/key-commands.ts';
import { readConfig } from '../../src/config.ts';
import { findAdminCaller } from '../../src/store/admin-keys.ts';
import { findCaller } from '../../src/store/api-keys.ts';
import { listAuditLogs } from '../../src/store/audit-logs.ts';
import { archiveProject } from '../../src/store/projects.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();

afterEach(() => void vi.restoreAllMocks());

/** What the command prints. */
async function anneal(...args: string[]): Promise<string> {
  const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const program = new Command();
  addKeyCommands(program, {
    run: command => command(readConfig({})) as Promise<never>,
    withDatabase: (_, work) => work(database),
  });
  await program.parseAsync(['keys', ...args], { from: 'user' });
  const text = written.mock.calls.map(([chunk]) => String(chunk)).join('');
  written.mockRestore();
  return text;
}

test('a key that is created works, is listed without its secret, and is useless once revoked', async () => {
  const secret = (await anneal('create', '--name', 'laptop')).trim();
  const caller = await findCaller(database.pool, secret);
  expect(caller).toMatchObject({ projectId: 'proj_default' });

  const list = await anneal('list');
  expect(list).toContain('laptop');
  expect(list).not.toContain(secret);

  await anneal('revoke', caller!.keyId);
  expect(await findCaller(database.pool, secret)).toBeNull();
  expect(await anneal('list')).not.toContain('laptop');
  await expect(anneal('revoke', caller!.keyId)).rejects.toThrow(/there is no key/);
});

test('--project makes a project of its own, or takes one by its id', async () => {
  const callers = [];
  for (const name of ['a', 'b'])
    callers.push(await findCaller(database.pool, (await anneal('create', '--project', name)).trim()));
  const [a, b] = callers.map(caller => caller!.projectId);
  expect(a).not.toBe(b);
  const again = await findCaller(database.pool, (await anneal('create', '--project', a!)).trim());
  expect(again!.projectId).toBe(a);
  await archiveProject(database.pool, b!);
  await expect(anneal('create', '--project', b!)).rejects.toThrow(/it is archived/);
  await expect(anneal('create', '--project', 'proj_x')).rejects.toThrow(/there is no project proj_x/);
});

test('--admin makes a key for the administration, which is listed and revoked like the others', async () => {
  const secret = (await anneal('create', '--admin', '--name', 'billing')).trim();
  expect(secret).toMatch(/^sk-admin-/);
  const id = await findAdminCaller(database.pool, secret);
  expect(await findCaller(database.pool, secret)).toBeNull();
  expect(await anneal('list')).toMatch(/billing +administration/);
  await anneal('revoke', id!);
  expect(await findAdminCaller(database.pool, secret)).toBeNull();
  await expect(anneal('create', '--admin', '--scopes', 'api.all.read')).rejects.toThrow(
    /cannot be combined with --project or --scopes/,
  );
});

test('a key may be restricted, and end by itself', async () => {
  const restrictions = ['--scopes', 'api.files.read, api.model.request', '--expires-in-days', '2'];
  const caller = await findCaller(database.pool, (await anneal('create', ...restrictions)).trim());
  expect(caller!.scopes).toEqual(['api.files.read', 'api.model.request']);
  const { rows } = await database.pool.query(
    "select expires_at > now() + interval '47 hours' as late, expires_at < now() + interval '48 hours' as soon from api_keys where id = $1",
    [caller!.keyId],
  );
  expect(rows[0]).toEqual({ late: true, soon: true });
});

test('what is done here stands in the audit log', async () => {
  const { rows } = await listAuditLogs(database.pool, { limit: 1 });
  expect(rows[0]).toMatchObject({ type: 'api_key.created', actor: { type: 'session', id: null } });
});
