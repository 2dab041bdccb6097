// Validation as the worker does it: what the user is told, in what state the job is left.
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Blobs } from '../../src/blobs/blobs.ts';
import type { Worker } from '../../src/queue/worker.ts';
import { useDatabase } from '../support/postgres.ts';
import {
  chatLines,
  openSetting,
  readJob,
  readMessages,
  SCRIPTED_TRAINER,
  type Setting,
  scripted,
  waitFor,
  waitForStatus,
} from './setting.ts';

/** A machine that runs all tests at once is slow. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const database = useDatabase();
let setting: Setting;
let worker: Worker | null = null;
beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
});
afterAll(() => setting.close());
afterEach(async () => {
  await worker?.close();
  worker = null;
});

async function start(blobs?: Blobs): Promise<void> {
  worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER, blobs });
}

async function eventsOf(id: string) {
  const { rows } = await setting.pool.query(
    'select level, message, data from job_events where job_id = $1 order by sequence',
    [id],
  );
  return rows;
}

test('good files move the job on', async () => {
  await start();
  const id = await setting.createJob({ trainingFile: await setting.putFile(scripted({})) });
  const job = await waitForStatus(setting.pool, id, 'succeeded');
  expect((await readMessages(setting.pool, id)).slice(0, 4)).toEqual([
    `Created fine-tuning job: ${id}`,
    `Validating training file: ${job.training_file}`,
    'Files validated, moving job to queued state',
    'Fine-tuning job started',
  ]);
});

test('every bad line of both files is an event, the first is the error', async () => {
  await start();
  const id = await setting.createJob({
    trainingFile: await setting.putFile([...chatLines(10), '{"messages": [', { messages: [] }]),
    validationFile: await setting.putFile([{ messages: [{ role: 'nobody', content: 'x' }] }]),
  });
  const job = await waitForStatus(setting.pool, id, 'failed');
  expect(job.error).toMatchObject({ code: 'invalid_training_file', param: 'training_file' });
  expect((job.error as { message: string }).message).toContain('Example 11');
  expect(job.started_at).toBeNull();
  const errors = (await eventsOf(id)).filter(event => event.level === 'error');
  const lines = errors.filter(event => event.data).map(({ data }) => `${data.param}:${data.line}`);
  expect(new Set(lines)).toEqual(new Set(['training_file:11', 'training_file:12', 'validation_file:1']));
  expect(errors.at(-1).message).toBe((job.error as { message: string }).message);
});

test('too few examples', async () => {
  await start();
  const id = await setting.createJob({ trainingFile: await setting.putFile(chatLines(7)) });
  const { error } = await waitForStatus(setting.pool, id, 'failed');
  expect(error).toEqual({
    code: 'invalid_n_examples',
    param: 'training_file',
    message: 'Training file has 7 example(s), but must have at least 10 examples',
  });
});

test('a file that is gone', async () => {
  await start();
  const trainingFile = await setting.putFile(chatLines(10));
  await setting.blobs.delete(`files/${trainingFile}`);
  const id = await setting.createJob({ trainingFile });
  const { error } = await waitForStatus(setting.pool, id, 'failed');
  expect(error).toMatchObject({
    param: 'training_file',
    message: `Training file ${trainingFile} is no longer there`,
  });
});

test('labels to measure on are held against those of the training file', async () => {
  await start();
  const labelled = (label: string) => ({ input: 'x', label });
  const trainingFile = await setting.putFile([...'abababababab'].map(labelled));
  const validationFile = await setting.putFile([labelled('a'), labelled('c')]);
  const method = { type: 'classification', classification: { hyperparameters: {} } } as const;
  const id = await setting.createJob({ method, trainingFile, validationFile });
  const { error } = await waitForStatus(setting.pool, id, 'failed');
  expect(error).toMatchObject({ code: 'invalid_validation_file', param: 'validation_file' });
  const told = (await eventsOf(id)).filter(({ level }) => level === 'error');
  expect(told[0]).toMatchObject({
    message: `${validationFile}: Example 2 has the label "c", which is not in the training file`,
    data: { param: 'validation_file', line: 2, path: 'label' },
  });
});

test('a text that no database column holds', async () => {
  await start();
  const line = { messages: [{ role: 'no\0body \ud800', content: 'x' }] };
  const id = await setting.createJob({ trainingFile: await setting.putFile([...chatLines(10), line]) });
  const { error } = await waitForStatus(setting.pool, id, 'failed');
  expect((error as { code: string }).code).not.toBe('server_error');
});

/** A store whose streams break off in the middle, the first few times. */
function breaking(times: number): Blobs {
  let left = times;
  return {
    ...setting.blobs,
    localPath: () => null,
    async get(key, range) {
      const whole = await setting.blobs.get(key, range);
      if (left-- <= 0) return whole;
      async function* half() {
        for await (const chunk of whole) {
          yield chunk.subarray(0, 100);
          throw Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
        }
      }
      return Readable.from(half());
    },
  };
}

test('a stream that breaks off is read again from its start', async () => {
  await start(breaking(2));
  const id = await setting.createJob({ trainingFile: await setting.putFile(scripted({})) });
  await waitForStatus(setting.pool, id, 'succeeded');
});

test('a job cancelled while its file is read stays cancelled', async () => {
  const reading = Promise.withResolvers<void>();
  const slow: Blobs = {
    ...setting.blobs,
    async get() {
      async function* endless() {
        for (const line of chatLines(1000)) {
          reading.resolve();
          await sleep(10);
          yield Buffer.from(`${JSON.stringify(line)}\n`);
        }
      }
      return Readable.from(endless());
    },
  };
  await start(slow);
  const id = await setting.createJob({ trainingFile: await setting.putFile(chatLines(10)) });
  await reading.promise;
  await setting.change(id, 'cancel');
  const messages = await readMessages(setting.pool, id);
  const before = performance.now();
  await worker!.close();
  worker = null;
  expect(performance.now() - before).toBeLessThan(2000);
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'cancelled', error: null });
  expect(await readMessages(setting.pool, id)).toEqual(messages);
});

test('a validation whose worker was lost is done again, and says everything once', async () => {
  const id = await setting.createJob({ trainingFile: await setting.putFile(scripted({})) });
  await setting.queue.boss.deleteAllJobs('validate-files');
  await setting.pool.query(
    `update jobs set attempt = 1, runner_id = 'dead', lease_until = now() - interval '1 s' where id = $1`,
    [id],
  );
  await start();
  await waitFor('the second attempt', async () => (await readJob(setting.pool, id)).attempt !== 1);
  await waitForStatus(setting.pool, id, 'succeeded');
  const messages = await readMessages(setting.pool, id);
  expect(new Set(messages).size).toBe(messages.length);
});
