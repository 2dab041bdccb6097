// Who works on a job. The lease lies on the job's row: a runner that lost it can change nothing, because every write of a
// run goes through `fenced`. What is written is elsewhere (runs.ts).
import type pg from 'pg';
import { inTransaction, type Queryable } from './database.ts';
import { type JobStatus, TERMINAL_STATUSES } from './jobs.ts';

export interface Lease {
  readonly jobId: string;
  /** Fencing token: grows each time that somebody takes the job. */
  readonly attempt: number;
  readonly runnerId: string;
  readonly leaseSeconds: number;
}

/** The job has gone to another runner, or will. */
export class LeaseLost extends Error {
  constructor({ jobId, attempt }: Lease) {
    super(`attempt ${attempt} at job ${jobId} no longer holds its lease`);
  }
}

/** The job needs no more work: it was cancelled, or an earlier write of this run ended it. */
export class JobEnded extends Error {
  readonly status: JobStatus;

  constructor({ jobId }: Lease, status: JobStatus) {
    super(`job ${jobId} is ${status}`);
    this.status = status;
  }
}

/** What a runner may find a job in when it takes it, and what it makes of it. */
const taken = { validating_files: 'validating_files', queued: 'running' } as const;

export interface Runner {
  readonly id: string;
  readonly leaseSeconds: number;
}

/**
 * Locks a job's row, and returns false when somebody else has it locked. Whoever holds its message must not wait for the
 * row: who holds the row may be waiting for the message.
 */
export async function lockJob(db: Queryable, jobId: string): Promise<boolean> {
  const { rowCount: locked } = await db.query(
    'select 1 from jobs where id = $1 for no key update skip locked',
    [jobId],
  );
  if (locked) return true;
  const { rowCount: found } = await db.query('select 1 from jobs where id = $1', [jobId]);
  return !found;
}

/** Null when there is nothing to do: another status, or somebody else holds the job. */
export async function takeLease(
  db: Queryable,
  jobId: string,
  from: keyof typeof taken,
  runner: Runner,
): Promise<Lease | null> {
  const { rows } = await db.query<{ attempt: number }>(
    `update jobs set attempt = attempt + 1, runner_id = $3, lease_until = now() + make_interval(secs => $4),
       status = $5, started_at = case when $5 = 'running' then coalesce(started_at, now()) end
     where id = $1 and status = $2 and (lease_until is null or lease_until < now())
     returning attempt`,
    [jobId, from, runner.id, runner.leaseSeconds, taken[from]],
  );
  const row = rows[0];
  return row ? { jobId, attempt: row.attempt, runnerId: runner.id, leaseSeconds: runner.leaseSeconds } : null;
}

const held = 'id = $1 and attempt = $2 and runner_id = $3';

function key({ jobId, attempt, runnerId }: Lease): [string, number, string] {
  return [jobId, attempt, runnerId];
}

/** The heartbeat. Returns the job's status, or null when the lease is lost. The lease of a job that has ended just runs out. */
export async function extendLease(db: Queryable, lease: Lease): Promise<JobStatus | null> {
  const { rows } = await db.query<{ status: JobStatus }>(
    `update jobs set lease_until = case when status = any($5) then lease_until else now() + make_interval(secs => $4) end
     where ${held} returning status`,
    [...key(lease), lease.leaseSeconds, TERMINAL_STATUSES],
  );
  return rows[0]?.status ?? null;
}

/**
 * Runs a write of a run in a transaction that holds the job's row: nobody takes, cancels or pauses the job meanwhile.
 * Throws LeaseLost or JobEnded, and then nothing is written.
 */
export async function fenced<T>(
  pool: pg.Pool,
  lease: Lease,
  work: (tx: pg.PoolClient, status: JobStatus) => Promise<T>,
): Promise<T> {
  return inTransaction(pool, async tx => {
    const { rows } = await tx.query<{ status: JobStatus }>(
      `select status from jobs where ${held} for no key update`,
      key(lease),
    );
    const status = rows[0]?.status;
    if (!status) throw new LeaseLost(lease);
    if (TERMINAL_STATUSES.includes(status)) throw new JobEnded(lease, status);
    return work(tx, status);
  });
}

/** Gives the job back. Inside `fenced`. */
export async function releaseLease(db: Queryable, lease: Lease, status: JobStatus): Promise<void> {
  await db.query(
    `update jobs set runner_id = null, lease_until = null, estimated_finish = null, status = $4 where ${held}`,
    [...key(lease), status],
  );
}

/** Of a job that has ended and is to be cleaned up. */
export async function letLeaseRunOut(db: Queryable, jobId: string): Promise<void> {
  await db.query('update jobs set lease_until = now() where id = $1', [jobId]);
}

/** Of a job that has ended: nothing is left to be done for it. */
export async function endLease(db: Queryable, jobId: string): Promise<void> {
  await db.query('update jobs set lease_until = null where id = $1 and status = any($2)', [
    jobId,
    TERMINAL_STATUSES,
  ]);
}

/** A job that was paused and resumed before its runner saw it just goes on. */
export async function goOnRunning(db: Queryable, lease: Lease): Promise<void> {
  await db.query(`update jobs set status = 'running' where ${held} and status = 'queued'`, key(lease));
}

export interface LostJob {
  id: string;
  status: JobStatus;
  attempt: number;
  lostLeases: number;
}

/** Takes the jobs from runners that fell silent: running ones are queued, the others keep their status. */
export async function takeBackLostJobs(db: Queryable): Promise<LostJob[]> {
  const { rows } = await db.query<LostJob>(
    `update jobs set runner_id = null, lease_until = null, estimated_finish = null, lost_leases = lost_leases + 1,
       status = case status when 'running' then 'queued' else status end
     where id in (
       select id from jobs
       where lease_until < now() and status in ('validating_files', 'queued', 'running', 'paused')
       for update skip locked)
     returning id, status, attempt, lost_leases as "lostLeases"`,
  );
  return rows;
}

export interface WaitingJob {
  id: string;
  status: 'validating_files' | 'queued';
  /** Somebody has already worked on it. */
  started: boolean;
}

/** Jobs that wait for a runner and should therefore have a message. */
export async function findWaitingJobs(db: Queryable): Promise<WaitingJob[]> {
  const { rows } = await db.query<WaitingJob>(
    `select id, status, started_at is not null as started from jobs
     where status in ('validating_files', 'queued') and lease_until is null order by created_at, id`,
  );
  return rows;
}
