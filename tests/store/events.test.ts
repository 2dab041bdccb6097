import { beforeAll, expect, test } from 'vitest';
import { inTransaction } from '../../src/store/database.ts';
import { appendEvents, listEvents, readEventsAfter } from '../../src/store/events.ts';
import { insertJob } from '../../src/store/jobs.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
let projectId: string;

beforeAll(async () => {
  projectId = (await ensureDefaultProject(database.pool)).id;
  await upsertBaseModel(database.pool, { id: 'base', architecture: 'llama', ownedBy: 'test', files: [] });
});

async function newJob(): Promise<string> {
  const job = await insertJob(database.pool, {
    projectId,
    apiKeyId: null,
    model: 'base',
    trainingFile: 'file-a',
    validationFile: null,
    suffix: null,
    seed: 1,
    metadata: null,
    method: { type: 'supervised', supervised: { hyperparameters: {} } },
  });
  return job.id;
}

test('keeps the order of one call, and says a named thing once', async () => {
  const jobId = await newJob();
  await appendEvents(database.pool, jobId, [
    { message: 'a', once: 'x' },
    { message: 'b', data: { n: 1 } },
    { message: 'c' },
  ]);
  await appendEvents(database.pool, jobId, [
    { message: 'a again', once: 'x' },
    { message: 'd', level: 'warn' },
  ]);
  const events = await readEventsAfter(database.pool, jobId, 0, 100);
  expect(events.map(event => event.message)).toEqual(['a', 'b', 'c', 'd']);
  expect(events.map(event => event.data)).toEqual([null, { n: 1 }, null, null]);
  const newest = await listEvents(database.pool, jobId, { limit: 3 });
  expect(newest.rows.map(event => event.message)).toEqual(['d', 'c', 'b']);
  expect(newest.hasMore).toBe(true);
});

test('an event that becomes visible later has the higher sequence, so that a reader misses none', async () => {
  const jobId = await newJob();
  let second: Promise<void> | undefined;
  await inTransaction(database.pool, async tx => {
    await appendEvents(tx, jobId, [{ message: 'first, slow to commit' }]);
    second = appendEvents(database.pool, jobId, [{ message: 'second' }]);
    await new Promise(done => setTimeout(done, 100));
    expect(await readEventsAfter(database.pool, jobId, 0, 10)).toEqual([]);
  });
  await second;
  const events = await readEventsAfter(database.pool, jobId, 0, 10);
  expect(events.map(event => event.message)).toEqual(['first, slow to commit', 'second']);
});
