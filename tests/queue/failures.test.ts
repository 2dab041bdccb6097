// What may go wrong with machines: trainers and workers killed at any moment, a database that restarts, an object store
// that is away, a runner that is late. The job succeeds, its losses are those of an undisturbed run bit for bit, no event
// comes twice and nothing is lost.
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { openS3 } from '../../src/blobs/s3.ts';
import { migrateQueue } from '../../src/queue/queue.ts';
import { startEmbeddedPostgres } from '../../src/store/embedded-postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { createDatabase, useDatabase } from '../support/postgres.ts';
import { openProxy, throughPort } from '../support/proxy.ts';
import { useS3 } from '../support/s3.ts';
import { isAlive, startWorkerProcess, trainersOf, type WorkerProcess } from './processes.ts';
import type { Script } from './scripted-trainer.ts';
import {
  chatLines,
  type JobOptions,
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
const s3 = useS3();
let setting: Setting;
let directory = '';
let diary = '';
/** Undone after each test, the last first, however it went. */
let undo: (() => Promise<unknown>)[] = [];
/** Of a run that nothing disturbed, with the real trainer. */
let undisturbed: Record<string, unknown>[] = [];
const STEPS = 60;

beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
  directory = await mkdtemp(join(tmpdir(), 'anneal-test-failures-'));
  const worker = await setting.startWorker();
  const id = await setting.createJob(await realJob(setting));
  await waitForStatus(setting.pool, id, 'succeeded');
  undisturbed = await readLosses(setting.pool, id);
  expect(undisturbed).toHaveLength(STEPS);
  await worker.close();
}, 120_000);
afterAll(async () => {
  await setting.close();
  await rm(directory, { recursive: true });
});
beforeEach(async () => {
  diary = join(directory, `${Math.random()}`);
  await writeFile(diary, '');
});

afterEach(async () => {
  for (const step of undo.reverse()) await step();
  undo = [];
});

async function start(options?: Parameters<Setting['startWorker']>[0], where = setting): Promise<void> {
  const worker = await where.startWorker(options);
  undo.push(() => worker.close());
}

async function startProcess(environment = environmentOf(setting)): Promise<WorkerProcess> {
  const worker = await startWorkerProcess(environment);
  undo.push(() => worker.end('SIGKILL'));
  return worker;
}

async function realJob({ putFile }: Setting): Promise<JobOptions> {
  return {
    trainingFile: await putFile(chatLines(30)),
    validationFile: await putFile(chatLines(4, 100)),
    hyperparameters: { n_epochs: 4, batch_size: 2 },
  };
}

async function scriptedJob(script: Partial<Script>): Promise<string> {
  return setting.createJob({ trainingFile: await setting.putFile(scripted({ diary, ...script })) });
}

function environmentOf({ config }: Setting): Record<string, string> {
  return {
    DATABASE_URL: config.databaseUrl!,
    ANNEAL_DATA_DIR: config.dataDirectory,
    ANNEAL_LEASE_SECONDS: '2',
    ANNEAL_CHECKPOINT_SECONDS: '1',
    ANNEAL_THREADS: '1',
  };
}

async function readDiary(): Promise<string[]> {
  return (await readFile(diary, 'utf8')).split('\n').filter(line => line !== '');
}

/** The job succeeded, and it shows nowhere that anything went wrong, except where it should. */
async function expectUndisturbed({ pool }: Setting, id: string): Promise<void> {
  expect(await readLosses(pool, id)).toEqual(undisturbed);
  const messages = await readMessages(pool, id);
  const told = messages.filter(message => !message.includes('the job continues from'));
  expect(new Set(told).size, 'no event twice').toBe(told.length);
  const steps = messages.filter(message => message.startsWith('Step '));
  expect(steps, 'every step, in order').toEqual(undisturbed.map((_, index) => steps[index]));
  steps.forEach((message, index) => {
    expect(message).toMatch(new RegExp(`^Step ${index + 1}/${STEPS}:`));
  });
  expect(messages.at(-1)).toBe('The job has successfully completed');
}

test('a trainer that dies goes on from its last checkpoint', async () => {
  const plain = await scriptedJob({ steps: 20, stepsPerEpoch: 10, resumeEvery: 4 });
  await start({ trainerModule: SCRIPTED_TRAINER });
  await waitForStatus(setting.pool, plain, 'succeeded');
  await writeFile(diary, '');
  const deaths: Script['deaths'] = {
    1: { afterStep: 6, how: 'SIGKILL' },
    2: { afterStep: 11, how: 'exit' },
    3: { afterStep: 15, how: 'silence' },
  };
  const id = await scriptedJob({ steps: 20, stepsPerEpoch: 10, resumeEvery: 4, deaths });
  await waitForStatus(setting.pool, id, 'succeeded');
  expect(await readLosses(setting.pool, id)).toEqual(await readLosses(setting.pool, plain));
  const told = (await readMessages(setting.pool, id)).filter(message =>
    message.includes('the job continues'),
  );
  expect(told).toEqual([
    'The training process was killed, most likely because the machine ran out of memory; the job continues from step 4',
    'The training process ended unexpectedly with exit code 3; the job continues from step 8',
    'The training process ended unexpectedly with exit code 0; the job continues from step 12',
  ]);
});

test('a trainer that dies again and again before a checkpoint fails the job, and says what to change', async () => {
  const death = { afterStep: 1, how: 'SIGKILL' } as const;
  await start({ trainerModule: SCRIPTED_TRAINER });
  const id = await scriptedJob({ deaths: { 1: death, 2: death, 3: death, 4: death } });
  const { error } = await waitForStatus(setting.pool, id, 'failed');
  expect(error).toMatchObject({ code: 'server_error', param: null });
  expect((error as { message: string }).message).toMatch(
    /3 times in a row.*Lower max_length, batch_size or rank/,
  );
  expect((await readDiary()).filter(line => line.endsWith('start'))).toHaveLength(3);
});

test('the real trainer killed with -9 at random moments', async () => {
  await start();
  const id = await setting.createJob(await realJob(setting));
  let last = 0;
  // Three deaths without a checkpoint between them would fail the job; past the middle there may be none to wait for.
  for (let kill = 0; kill < 3 && last <= STEPS / 2; kill++) {
    await waitFor('a checkpoint', async () => {
      const { rows } = await setting.pool.query(
        'select coalesce(max(step), 0) as step from job_checkpoints where job_id = $1',
        [id],
      );
      const reached = rows[0].step > last;
      last = rows[0].step;
      return reached;
    });
    await sleep(300 * Math.random());
    for (const pid of await trainersOf(process.pid)) process.kill(pid, 'SIGKILL');
  }
  await waitForStatus(setting.pool, id, 'succeeded');
  await expectUndisturbed(setting, id);
}, 240_000);

test('a worker killed with -9 at random moments takes its trainer along, and the next one goes on', async () => {
  const id = await setting.createJob(await realJob(setting));
  for (let kill = 0; kill < 3; kill++) {
    const worker = await startProcess();
    const steps = (await readLosses(setting.pool, id)).length;
    await waitFor(
      'progress',
      async () => (await readLosses(setting.pool, id)).length > Math.min(steps, STEPS - 9),
    );
    await sleep(500 * Math.random());
    const trainers = await trainersOf(worker.pid);
    await worker.end('SIGKILL');
    await waitFor('the trainer to be gone', async () => {
      const alive = await Promise.all(trainers.map(isAlive));
      return !alive.includes(true);
    });
  }
  await startProcess();
  await waitForStatus(setting.pool, id, 'succeeded', 180_000);
  await expectUndisturbed(setting, id);
}, 300_000);

test('a runner that is late changes nothing: stopped, overtaken, and let go on', async () => {
  const id = await setting.createJob(await realJob(setting));
  const late = await startProcess();
  await waitFor('progress', async () => (await readLosses(setting.pool, id)).length > 10);
  const [trainer] = await trainersOf(late.pid);
  late.child.kill('SIGSTOP'); // its trainer goes on and fills its ears
  const first = (await readJob(setting.pool, id)).attempt;
  await startProcess();
  await waitFor('the job to be taken', async () => (await readJob(setting.pool, id)).attempt !== first);
  late.child.kill('SIGCONT');
  await waitFor('the late trainer to be gone', async () => !(await isAlive(trainer!)));
  await waitForStatus(setting.pool, id, 'succeeded', 180_000);
  await expectUndisturbed(setting, id);
}, 240_000);

test('Postgres is killed and started again in the middle', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-test-restart-'));
  let server = await startEmbeddedPostgres({ directory: join(folder, 'postgres') });
  undo.push(async () => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const proxy = await openProxy(portOf(server.url));
  undo.push(() => proxy.close());
  const databaseUrl = throughPort(server.url, proxy.port);
  await migrate(databaseUrl);
  await migrateQueue(databaseUrl);
  const own = await openSetting({ databaseUrl });
  undo.push(() => own.close());
  await start({}, own);
  const id = await own.createJob(await realJob(own));
  const attempts: unknown[] = [];
  for (const how of ['SIGKILL', 'stop'] as const) {
    const steps = (await readLosses(own.pool, id)).length;
    await waitFor(
      'progress',
      async () => (await readLosses(own.pool, id)).length > Math.min(steps + 3, STEPS - 9),
    );
    attempts.push((await readJob(own.pool, id)).attempt);
    proxy.cut();
    if (how === 'SIGKILL') process.kill(server.pid, how);
    await server.stop();
    await sleep(1500);
    server = await startEmbeddedPostgres({ directory: join(folder, 'postgres') });
    proxy.restore(portOf(server.url));
    await waitFor('the database', () => own.pool.query('select 1').catch(() => null));
  }
  await waitForStatus(own.pool, id, 'succeeded', 180_000);
  await expectUndisturbed(own, id);
  attempts.push((await readJob(own.pool, id)).attempt);
  expect(new Set(attempts).size, 'the same runner goes on').toBe(1);
}, 300_000);

test('the object store is away for a while', async () => {
  const proxy = await openProxy(portOf(s3.settings.endpoint!));
  undo.push(() => proxy.close());
  const endpoint = throughPort(s3.settings.endpoint!, proxy.port);
  const other = await createDatabase();
  undo.push(() => other.drop());
  const own = await openSetting({ databaseUrl: other.url, blobs: openS3({ ...s3.settings, endpoint }) });
  undo.push(() => own.close());
  await start({}, own);
  const id = await own.createJob(await realJob(own));
  await waitFor('progress', async () => (await readLosses(own.pool, id)).length > 3);
  proxy.cut();
  await sleep(12_000);
  expect((await readJob(own.pool, id)).status).toBe('running');
  proxy.restore();
  await waitForStatus(own.pool, id, 'succeeded', 180_000);
  await expectUndisturbed(own, id);
  expect((await readJob(own.pool, id)).crashes).toBe(0);
}, 240_000);

test('two workers share the jobs: each is run once', async () => {
  const jobs = [];
  for (let count = 0; count < 6; count++)
    jobs.push(await scriptedJob({ steps: 20, stepMs: 25, stepsPerEpoch: 20 }));
  const environment = { ...environmentOf(setting), TEST_TRAINER: SCRIPTED_TRAINER };
  await Promise.all([1, 2].map(() => startProcess(environment)));
  const runners = new Set<unknown>();
  for (const job of jobs) runners.add((await waitForStatus(setting.pool, job, 'succeeded')).runner_id);
  expect(runners.size).toBe(2);
  expect((await readDiary()).filter(line => line.endsWith(' start'))).toHaveLength(6);
});

test('a message that was lost is sent again', async () => {
  const id = await scriptedJob({});
  await setting.queue.boss.deleteAllJobs('validate-files');
  await start({ trainerModule: SCRIPTED_TRAINER });
  await waitForStatus(setting.pool, id, 'succeeded');
});

test('what a runner left that died right after the end of its job is removed by another', async () => {
  await start({ trainerModule: SCRIPTED_TRAINER });
  const id = await scriptedJob({});
  await waitForStatus(setting.pool, id, 'succeeded');
  await waitFor('the lease to end', async () => !(await readJob(setting.pool, id)).lease_until);
  const left = `jobs/${id}/2/resume-step-6/state.json`;
  await setting.blobs.put(left, Buffer.from('x'));
  await setting.pool.query(`update jobs set lease_until = now() + interval '1 s' where id = $1`, [id]);
  await waitFor('the object to go', async () => (await setting.blobs.size(left)) === null);
  await waitFor('the lease to end', async () => !(await readJob(setting.pool, id)).lease_until);
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'succeeded' });
});

test('a job that loses worker after worker is not tried for ever', async () => {
  const id = await scriptedJob({});
  await setting.pool.query(
    `update jobs set status = 'running', lease_until = now() - interval '1 s', lost_leases = 19 where id = $1`,
    [id],
  );
  await start({ trainerModule: SCRIPTED_TRAINER });
  const { error } = await waitForStatus(setting.pool, id, 'failed');
  expect((error as { message: string }).message).toContain('The worker was lost 20 times in a row');
});

test('folders of dead workers are removed at the start, those of living ones are not', async () => {
  const work = join(setting.config.dataDirectory, 'work');
  const folder = (host: string, pid: number) => join(work, `${host}.${pid}.1.0a1b2c3d`);
  const dead = folder(hostname(), 2 ** 22 + 1);
  const alive = folder(hostname(), process.ppid);
  const elsewhere = folder('another-host', 1);
  for (const path of [dead, alive, elsewhere]) await mkdir(path, { recursive: true });
  await writeFile(join(elsewhere, 'alive'), '');
  await start();
  await expect(access(dead)).rejects.toThrow('ENOENT');
  await access(alive);
  await access(elsewhere);
});

function portOf(url: string): number {
  return Number(new URL(url).port);
}
