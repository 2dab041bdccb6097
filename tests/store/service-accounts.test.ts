// A key that is made while its account is being deleted: whoever is first, no key of a deleted account works.
import type pg from 'pg';
import { beforeEach, expect, test } from 'vitest';
import { newSecretKey } from '../../src/ids.ts';
import { findCaller, insertApiKey } from '../../src/store/api-keys.ts';
import { inTransaction } from '../../src/store/database.ts';
import { ensureDefaultProject, DEFAULT_PROJECT_ID as projectId } from '../../src/store/projects.ts';
import {
  deleteServiceAccount,
  holdServiceAccount,
  insertServiceAccount,
} from '../../src/store/service-accounts.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
let accountId: string;
beforeEach(async () => {
  await ensureDefaultProject(database.pool);
  const account = { projectId, name: 'router', role: 'member' } as const;
  accountId = (await insertServiceAccount(database.pool, account)).id;
});

/** Null where the account is gone. */
async function createKey(tx: pg.PoolClient): Promise<string | null> {
  if (!(await holdServiceAccount(tx, projectId, accountId))) return null;
  const secret = newSecretKey('svcacct');
  await insertApiKey(tx, { projectId, name: 'a', secret, serviceAccountId: accountId });
  return secret;
}

const deleteAccount = (tx: pg.PoolClient) => deleteServiceAccount(tx, projectId, accountId);

/** The second begins when the first has written, and the first ends when the second waits for it. */
async function oneAfterTheOther<First, Second>(
  first: (tx: pg.PoolClient) => Promise<First>,
  second: (tx: pg.PoolClient) => Promise<Second>,
): Promise<[First, Second]> {
  let secondEnds!: Promise<Second>;
  const made = await inTransaction(database.pool, async tx => {
    const done = await first(tx);
    secondEnds = inTransaction(database.pool, second);
    await expect.poll(someoneWaits, { timeout: 10_000 }).toBe(true);
    return done;
  });
  return [made, await secondEnds];
}

async function someoneWaits(): Promise<boolean> {
  const waiting = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  return (await database.pool.query(waiting)).rowCount! > 0;
}

test('a key that is made first ends with the account', async () => {
  const [secret, revoked] = await oneAfterTheOther(createKey, deleteAccount);
  expect(revoked).toHaveLength(1);
  expect(await findCaller(database.pool, secret!)).toBeNull();
});

test('a key that comes second is not made', async () => {
  const [revoked, secret] = await oneAfterTheOther(deleteAccount, createKey);
  expect(revoked).toEqual([]);
  expect(secret).toBeNull();
});
