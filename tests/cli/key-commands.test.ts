import { Command } from 'commander';
import { afterEach, expect, test, vi } from 'vitest';
import { addKeyCommands } from '../../src/cli/key-commands.ts';
import { readConfig } from '../../src/config.ts';
import { findCaller } from '../../src/store/api-keys.ts';
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

test('--project makes a project of its own', async () => {
  const callers = [];
  for (const name of ['a', 'b'])
    callers.push(await findCaller(database.pool, (await anneal('create', '--project', name)).trim()));
  expect(new Set(callers.map(caller => caller!.projectId)).size).toBe(2);
});
