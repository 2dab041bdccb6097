// The listening connection: closed for good, also while it comes back.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { openLog } from '../../src/log.ts';
import { openNotifications } from '../../src/store/notifications.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const CHANNEL = 'closed_while_away';

async function listeners(): Promise<number[]> {
  const { rows } = await database.pool.query<{ pid: number }>(
    'select pid from pg_stat_activity where application_name = $1 and datname = current_database()',
    [`anneal listen ${CHANNEL}`],
  );
  return rows.map(({ pid }) => pid);
}

test('closed while its lost connection is coming back, it leaves none behind', async () => {
  const log = openLog({ level: 'silent', process: 'test' });
  const notifications = await openNotifications(database.url, CHANNEL, log);
  const [pid] = await listeners();
  await database.pool.query('select pg_terminate_backend($1)', [pid]);
  await sleep(50); // it waits 100 ms before it comes back
  await notifications.close();
  await sleep(300);
  expect(await listeners()).toEqual([]);
});
