// Taking messages: nobody waits for a row while holding a message, so nobody who holds the row can wait in a circle.
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { inTransaction } from '../../src/store/database.ts';
import { changeJobStatus } from '../../src/store/jobs.ts';
import { useDatabase } from '../support/postgres.ts';
import { openSetting, SCRIPTED_TRAINER, type Setting, scripted, waitFor, waitForStatus } from './setting.ts';

/** A machine that runs all tests at once is slow. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const database = useDatabase();
let setting: Setting;
beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
});
afterAll(() => setting.close());

test('a user who resumes a job while its old message is being taken gets no deadlock', async () => {
  const worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER });
  for (let round = 0; round < 12; round++) {
    const id = await setting.createJob({
      trainingFile: await setting.putFile(scripted({ steps: 3, stepMs: 1 })),
    });
    await waitFor('validation', async () => {
      const { rows } = await setting.pool.query('select status from jobs where id = $1', [id]);
      return rows[0].status !== 'validating_files';
    });
    await inTransaction(setting.pool, async client => {
      const paused = await changeJobStatus(client, setting.projectId, id, 'pause');
      if (!paused) return;
      await changeJobStatus(client, setting.projectId, id, 'resume');
      await setting.queue.enqueueTraining(id, { client });
    });
    await waitForStatus(setting.pool, id, 'succeeded');
  }
  await worker.close();
}, 60_000);

test('a message whose job is being written to is left until that is done', async () => {
  const id = await setting.createJob({
    trainingFile: await setting.putFile(scripted({ steps: 3, stepMs: 1 })),
  });
  const written = Promise.withResolvers<void>();
  const writing = inTransaction(setting.pool, async client => {
    await client.query('select 1 from jobs where id = $1 for update', [id]);
    await written.promise;
  });
  const worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER });
  const other = await setting.createJob({
    trainingFile: await setting.putFile(scripted({ steps: 3, stepMs: 1 })),
  });
  await new Promise(done => setTimeout(done, 300));
  expect(await setting.queue.boss.findJobs('validate-files')).toHaveLength(2);
  written.resolve();
  await writing;
  await Promise.all([id, other].map(job => waitForStatus(setting.pool, job, 'succeeded')));
  await worker.close();
});

test('a message for a job that is not there is dropped', async () => {
  await setting.queue.enqueueTraining('ftjob-gone');
  const worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER });
  await waitFor('the message to go', async () => (await setting.queue.boss.findJobs('train')).length === 0);
  await worker.close();
});
