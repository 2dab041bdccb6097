// The lease and its fence: who holds a job, and that nobody else can write to it.
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { insertJob, type JobStatus } from '../../src/store/jobs.ts';
import {
  extendLease,
  fenced,
  findWaitingJobs,
  JobEnded,
  type Lease,
  LeaseLost,
  releaseLease,
  takeBackLostJobs,
  takeLease,
} from '../../src/store/leases.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import { writeFailure } from '../../src/store/runs.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
const one = { id: 'runner one', leaseSeconds: 60 };
const two = { id: 'runner two', leaseSeconds: 60 };
let jobId = '';

beforeAll(async () => {
  await ensureDefaultProject(database.pool);
  await upsertBaseModel(database.pool, { id: 'base', architecture: 'llama', ownedBy: 'system', files: [] });
});

beforeEach(async () => {
  await database.pool.query('delete from jobs');
  const job = await insertJob(database.pool, {
    projectId: 'proj_default',
    apiKeyId: null,
    model: 'base',
    trainingFile: 'file-1',
    validationFile: null,
    suffix: null,
    seed: 1,
    metadata: null,
    method: { type: 'supervised', supervised: { hyperparameters: {} } },
  });
  jobId = job.id;
  await setStatus('queued');
});

async function setStatus(status: JobStatus): Promise<void> {
  await database.pool.query('update jobs set status = $2 where id = $1', [jobId, status]);
}

async function letLeaseRunOut(): Promise<void> {
  await database.pool.query(`update jobs set lease_until = now() - interval '1 s' where id = $1`, [jobId]);
}

async function read(): Promise<Record<string, unknown>> {
  return (await database.pool.query('select * from jobs where id = $1', [jobId])).rows[0];
}

async function take(runner = one): Promise<Lease<'jobs'>> {
  return (await takeLease(database.pool, { table: 'jobs', id: jobId, from: 'queued' }, runner))!;
}

function writeAs(lease: Lease): Promise<void> {
  return fenced(database.pool, lease, tx =>
    writeFailure(tx, jobId, { code: 'x', message: 'x', param: null }),
  );
}

test('a queued job is taken by one of many', async () => {
  const takes = Array.from({ length: 8 }, (_, index) =>
    takeLease(
      database.pool,
      { table: 'jobs', id: jobId, from: 'queued' },
      { id: `runner ${index}`, leaseSeconds: 60 },
    ),
  );
  const taken = (await Promise.all(takes)).filter(lease => lease !== null);
  expect(taken).toHaveLength(1);
  expect(await read()).toMatchObject({ status: 'running', attempt: 1, runner_id: taken[0]!.runnerId });
});

test('a job in another status is not taken', async () => {
  for (const status of ['running', 'paused', 'succeeded', 'failed', 'cancelled'] as const) {
    await setStatus(status);
    expect(
      await takeLease(database.pool, { table: 'jobs', id: jobId, from: 'queued' }, one),
      status,
    ).toBeNull();
  }
});

test('a queued job that its runner has not let go of yet is not taken', async () => {
  const lease = await take();
  await setStatus('queued');
  expect(await takeLease(database.pool, { table: 'jobs', id: jobId, from: 'queued' }, two)).toBeNull();
  await releaseLease(database.pool, lease, 'queued');
  expect(await takeLease(database.pool, { table: 'jobs', id: jobId, from: 'queued' }, two)).toMatchObject({
    attempt: 2,
  });
});

test('a stale runner changes nothing', async () => {
  const stale = await take(one);
  await letLeaseRunOut();
  await takeBackLostJobs(database.pool);
  const before = await read();
  await expect(writeAs(stale), 'taken back').rejects.toThrow(LeaseLost);
  expect(await extendLease(database.pool, stale)).toBeNull();
  expect(await read()).toEqual(before);

  const current = await take(two);
  const held = await read();
  await expect(writeAs(stale), 'taken by another').rejects.toThrow(LeaseLost);
  expect(await extendLease(database.pool, stale)).toBeNull();
  await releaseLease(database.pool, stale, 'failed');
  expect(await read()).toEqual(held);
  await writeAs(current);
  expect(await read()).toMatchObject({ status: 'failed' });
});

test('nothing is written to a job that has ended', async () => {
  const lease = await take();
  for (const status of ['succeeded', 'failed', 'cancelled'] as const) {
    await setStatus(status);
    await expect(writeAs(lease), status).rejects.toThrow(JobEnded);
    expect(await extendLease(database.pool, lease)).toBe(status);
    const { lease_until: before } = await read();
    await extendLease(database.pool, lease);
    expect(await read(), 'a late heartbeat').toMatchObject({ lease_until: before });
  }
});

test('a write that throws leaves nothing', async () => {
  const lease = await take();
  const write = fenced(database.pool, lease, async tx => {
    await tx.query(`update jobs set suffix = 'half' where id = $1`, [jobId]);
    throw new Error('stop');
  });
  await expect(write).rejects.toThrow('stop');
  expect(await read()).toMatchObject({ suffix: null });
});

test('a cancel waits for the write in hand and then stands', async () => {
  const lease = await take();
  const inside = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const writing = fenced(database.pool, lease, async tx => {
    inside.resolve();
    await go.promise;
    await tx.query(`update jobs set suffix = 'written' where id = $1`, [jobId]);
  });
  await inside.promise;
  const cancelling = setStatus('cancelled');
  go.resolve();
  await Promise.all([writing, cancelling]);
  expect(await read()).toMatchObject({ suffix: 'written', status: 'cancelled' });
  await expect(writeAs(lease)).rejects.toThrow(JobEnded);
});

test('leases that ran out are taken back, each once; others are left', async () => {
  await take();
  expect(await takeBackLostJobs(database.pool)).toEqual([]);
  await letLeaseRunOut();
  const found = await Promise.all([1, 2, 3].map(() => takeBackLostJobs(database.pool)));
  expect(found.flat()).toEqual([{ id: jobId, status: 'queued', attempt: 1, lostLeases: 1 }]);
  expect(await findWaitingJobs(database.pool)).toEqual([{ id: jobId, status: 'queued', started: true }]);
});

test('a paused job whose runner was lost stays paused', async () => {
  await take();
  await setStatus('paused');
  await letLeaseRunOut();
  expect(await takeBackLostJobs(database.pool)).toMatchObject([{ status: 'paused' }]);
  expect(await findWaitingJobs(database.pool)).toEqual([]);
});

test('validation keeps the status and holds the job all the same', async () => {
  await setStatus('validating_files');
  expect(
    await takeLease(database.pool, { table: 'jobs', id: jobId, from: 'validating_files' }, one),
  ).toMatchObject({ attempt: 1 });
  expect(
    await takeLease(database.pool, { table: 'jobs', id: jobId, from: 'validating_files' }, two),
  ).toBeNull();
  expect(await read()).toMatchObject({ status: 'validating_files', started_at: null });
});

test('a runner that freezes in the middle of a write holds the job only for a while', async () => {
  const lease = await take();
  await letLeaseRunOut();
  const { pool } = database;
  const { rows } = await pool.query('show idle_in_transaction_session_timeout');
  expect(rows[0].idle_in_transaction_session_timeout).toBe('20s');
  const frozen = await pool.connect();
  const lost = new Promise(done => frozen.on('error', done));
  await frozen.query(`set idle_in_transaction_session_timeout = '300ms'`);
  await frozen.query('begin');
  await frozen.query('select 1 from jobs where id = $1 for update', [lease.id]);
  expect(await takeBackLostJobs(pool)).toEqual([]);
  await lost;
  await expect.poll(() => takeBackLostJobs(pool)).toMatchObject([{ id: lease.id }]);
  frozen.release(true);
});
