// What a user does to a job while it waits or runs: cancel, pause, resume, in every state and at awkward moments.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import type { Worker } from '../../src/queue/worker.ts';
import { useDatabase } from '../support/postgres.ts';
import type { Script } from './scripted-trainer.ts';
import {
  chatLines,
  openSetting,
  readJob,
  readLosses,
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
let directory = '';
let diary = '';

beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
  directory = await mkdtemp(join(tmpdir(), 'anneal-test-control-'));
});
afterAll(async () => {
  await setting.close();
  await rm(directory, { recursive: true });
});
beforeEach(async () => {
  diary = join(directory, `${Math.random()}`);
  await writeFile(diary, '');
});
afterEach(async () => {
  await worker?.close();
  worker = null;
});

async function start(options: Parameters<Setting['startWorker']>[0] = {}): Promise<void> {
  worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER, ...options });
}

async function create(script: Partial<Script>): Promise<string> {
  return setting.createJob({ trainingFile: await setting.putFile(scripted({ diary, ...script })) });
}

async function readDiary(): Promise<string[]> {
  return (await readFile(diary, 'utf8')).split('\n').filter(line => line !== '');
}

async function waitForStep(step: number): Promise<void> {
  await waitFor(`step ${step}`, async () => (await readDiary()).some(line => line.endsWith(` step ${step}`)));
}

async function trainerIsGone(): Promise<void> {
  const pids = new Set((await readDiary()).map(line => Number(line.split(' ')[0])));
  await waitFor('the trainer to be gone', async () => [...pids].every(pid => !isAlive(pid)), 5_000);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const long = { steps: 1000, stepMs: 20, stepsPerEpoch: 1000, resumeEvery: 10 };

test('a running job is cancelled within a step, and nothing is written afterwards', async () => {
  await start();
  const id = await create(long);
  await waitForStep(15);
  const before = performance.now();
  await setting.change(id, 'cancel');
  await trainerIsGone();
  expect(performance.now() - before).toBeLessThan(1000);
  const messages = await readMessages(setting.pool, id);
  await sleep(300);
  expect(await readMessages(setting.pool, id)).toEqual(messages);
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'cancelled', fine_tuned_model: null });
  await waitFor('its objects to go', async () => {
    for await (const _ of setting.blobs.list(`jobs/${id}/`)) return false;
    return true;
  });
});

test('a job cancelled before anybody took it never starts', async () => {
  const id = await create(long);
  await setting.change(id, 'cancel');
  await start();
  const next = await create({});
  await waitForStatus(setting.pool, next, 'succeeded');
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'cancelled', started_at: null });
});

test('a queued and a paused job are cancelled, and what they left is removed', async () => {
  await start();
  const running = await create(long);
  await waitForStep(25);
  const queued = await create(long);
  await waitForStatus(setting.pool, queued, 'queued');
  await setting.change(queued, 'cancel');
  await setting.change(running, 'pause');
  await trainerIsGone();
  await waitFor('the lease to end', async () => !(await readJob(setting.pool, running)).lease_until);
  await setting.change(running, 'cancel');
  await waitFor('its objects to go', async () => {
    for await (const _ of setting.blobs.list(`jobs/${running}/`)) return false;
    return true;
  });
  expect(await readJob(setting.pool, queued)).toMatchObject({ status: 'cancelled', started_at: null });
});

test('a paused job stops, keeps its place, and goes on from there', async () => {
  await start();
  const id = await create({ ...long, steps: 60, stepsPerEpoch: 20 });
  await waitForStep(13);
  await setting.change(id, 'pause');
  await trainerIsGone();
  await waitFor('the lease to end', async () => !(await readJob(setting.pool, id)).lease_until);
  const atPause = (await readDiary()).length;
  await sleep(500);
  expect((await readDiary()).length).toBe(atPause);
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'paused', crashes: 0 });
  await setting.change(id, 'resume');
  await waitForStatus(setting.pool, id, 'succeeded');
  const steps = (await readDiary()).filter(line => line.includes(' step ')).map(line => line.split(' ')[2]);
  expect(steps, 'no step is done twice').toEqual(Array.from({ length: 60 }, (_, index) => `${index + 1}`));
});

test('paused and resumed again and again, with the real trainer, the losses are bit for bit the same', async () => {
  await start({ trainerModule: undefined });
  const options = {
    trainingFile: await setting.putFile(chatLines(30)),
    validationFile: await setting.putFile(chatLines(4, 100)),
    hyperparameters: { n_epochs: 4, batch_size: 2 },
  };
  const undisturbed = await setting.createJob(options);
  await waitForStatus(setting.pool, undisturbed, 'succeeded');
  const expected = await readLosses(setting.pool, undisturbed);
  expect(expected).toHaveLength(60);

  const id = await setting.createJob(options);
  let pauses = 0;
  for (const step of [1, 17, 33]) {
    await waitFor(`step ${step}`, async () => (await readLosses(setting.pool, id)).length >= step);
    // On a slow machine it may be there already before the job was taken up again.
    await waitFor('a runner', async () => (await readJob(setting.pool, id)).status !== 'queued');
    if (!(await setting.change(id, 'pause'))) break;
    pauses += 1;
    await waitFor('the lease to end', async () => !(await readJob(setting.pool, id)).lease_until);
    await setting.change(id, 'resume');
  }
  expect(pauses).toBe(3);
  const job = await waitForStatus(setting.pool, id, 'succeeded');
  expect(await readLosses(setting.pool, id)).toEqual(expected);
  const sums = await Promise.all([id, undisturbed].map(weightsOf));
  expect(sums[0]).toEqual(sums[1]);
  expect(job.attempt).toBeGreaterThanOrEqual(5);
}, 120_000);

async function weightsOf(jobId: string): Promise<string[]> {
  const { rows } = await setting.pool.query(
    `select file->>'sha256' as sha256 from models, jsonb_array_elements(files) as file
     where id = (select fine_tuned_model from jobs where id = $1) and file->>'path' like '%.safetensors'`,
    [jobId],
  );
  return rows.map(row => row.sha256);
}

test('a job resumed while its runner still writes its checkpoint goes on', async () => {
  await start();
  const id = await create({ ...long, steps: 40, stepMs: 40, stepsPerEpoch: 40 });
  await waitForStep(5);
  await setting.change(id, 'pause');
  await setting.change(id, 'resume');
  await waitForStatus(setting.pool, id, 'succeeded');
  const steps = (await readDiary()).filter(line => line.includes(' step ')).map(line => line.split(' ')[2]);
  expect(steps).toEqual(Array.from({ length: 40 }, (_, index) => `${index + 1}`));
});

test('paused and resumed so quickly that nobody saw it, a job just runs', async () => {
  await start();
  const id = await create({ ...long, steps: 100, stepsPerEpoch: 100 });
  await waitForStep(3);
  const { pool } = setting;
  // One transaction: the runner can never see `paused`.
  await pool.query(
    `with paused as (select pg_notify('anneal_control', $1)) update jobs set status = 'queued' from paused where id = $1`,
    [id],
  );
  await setting.queue.enqueueTraining(id);
  await waitFor('the status to be right again', async () => (await readJob(pool, id)).status === 'running');
  await waitForStatus(pool, id, 'succeeded');
  expect((await readDiary()).filter(line => line.endsWith(' start'))).toHaveLength(1);
});

test('cancel, pause and resume at random moments: a job ends as its last request says', async () => {
  await start();
  for (let round = 0; round < 8; round++) {
    await writeFile(diary, '');
    const id = await create({ ...long, steps: 30, stepMs: 10, stepsPerEpoch: 10, resumeEvery: 3 });
    let cancelled = false;
    for (let action = 0; action < 4 && !cancelled; action++) {
      await sleep(150 * Math.random());
      const wish = (['pause', 'resume', 'pause', 'cancel'] as const)[Math.floor(4 * Math.random())]!;
      cancelled = (await setting.change(id, wish))?.status === 'cancelled';
    }
    await setting.change(id, 'resume');
    const job = await waitFor('an end', async () => {
      const found = await readJob(setting.pool, id);
      return ['succeeded', 'failed', 'cancelled'].includes(found.status) ? found : null;
    });
    expect(job.status).toBe(cancelled ? 'cancelled' : 'succeeded');
    const messages = await readMessages(setting.pool, id);
    expect(new Set(messages).size, 'no event twice').toBe(messages.length);
    if (!cancelled) expect(messages.filter(message => message.startsWith('Step '))).toHaveLength(30);
  }
}, 120_000);

test('a worker that is told to end writes a checkpoint and gives the job back', async () => {
  await start();
  const id = await create({ ...long, steps: 80, stepsPerEpoch: 80, resumeEvery: 1000 });
  await waitForStep(10);
  await worker!.close();
  worker = null;
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'queued', lease_until: null });
  const done = (await readDiary()).at(-1)!.split(' ')[2];
  const { rows } = await setting.pool.query('select step from job_checkpoints where job_id = $1', [id]);
  expect(rows).toEqual([{ step: Number(done) }]);
  await start();
  await waitForStatus(setting.pool, id, 'succeeded');
  const steps = (await readDiary()).filter(line => line.includes(' step ')).map(line => line.split(' ')[2]);
  expect(steps).toEqual(Array.from({ length: 80 }, (_, index) => `${index + 1}`));
});
