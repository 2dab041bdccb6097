// Messages: there when the caller's transaction commits, one for a job, and none before `migrate`.
import { expect, test } from 'vitest';
import { migrateQueue, openQueue } from '../../src/queue/queue.ts';
import { inTransaction } from '../../src/store/database.ts';
import { useDatabase } from '../support/postgres.ts';
import { execute } from '../support/postgres-server.ts';

const database = useDatabase();

async function waiting(queue: Awaited<ReturnType<typeof openQueue>>, name: string): Promise<unknown[]> {
  return (await queue.boss.findJobs<{ jobId: string }>(name)).map(job => job.data.jobId);
}

test('a message is stored when the transaction commits, and only then', async () => {
  const queue = await openQueue(database.url);
  await inTransaction(database.pool, async client => {
    await queue.enqueueValidation('committed', { client });
    expect(await waiting(queue, 'validate-files')).toEqual([]);
  });
  await inTransaction(database.pool, async client => {
    await queue.enqueueValidation('rolled back', { client });
    throw new Error('no');
  }).catch(() => undefined);
  expect(await waiting(queue, 'validate-files')).toEqual(['committed']);
  await queue.close();
});

test('a job has one waiting message', async () => {
  const queue = await openQueue(database.url);
  await Promise.all([1, 2, 3].map(() => queue.enqueueTraining('same')));
  await queue.enqueueTraining('other');
  expect((await waiting(queue, 'train')).sort()).toEqual(['other', 'same']);
  await queue.close();
});

test('an interrupted job comes before those that have not begun', async () => {
  const queue = await openQueue(database.url);
  await queue.boss.deleteAllJobs('train');
  await queue.enqueueTraining('new');
  await queue.enqueueTraining('interrupted', { first: true });
  const [next] = await queue.boss.fetch<{ jobId: string }>('train');
  expect(next!.data.jobId).toBe('interrupted');
  await queue.boss.deleteAllJobs('train');
  await queue.close();
});

test('check says that the queue answers, and why it does not', async () => {
  const queue = await openQueue(database.url);
  await queue.check();
  await queue.close();
  await expect(queue.check()).rejects.toThrow();
});

test('migrations at the same time and again do no harm', async () => {
  const queue = await openQueue(database.url);
  await queue.enqueueTraining('kept');
  await Promise.all([migrateQueue(database.url), migrateQueue(database.url)]);
  expect(await waiting(queue, 'train')).toContain('kept');
  await queue.close();
});

test('before the migration the queue does not open, and says why', async () => {
  await execute(database.url, 'drop schema pgboss cascade');
  await expect(openQueue(database.url)).rejects.toThrow('not installed');
});
