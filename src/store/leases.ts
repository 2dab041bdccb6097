// Leases on jobs, eval runs, exports and batches: which runner works on which row. The lease is part of the row, and every write of a
// run goes through `fenced`, so a runner that lost its lease can change nothing. What runs write is in runs.ts and eval-runs.ts.
import type pg from 'pg';
import { type BatchStatus, ENDED_BATCH_STATUSES } from './batches.ts';
import { inTransaction, type Queryable } from './database.ts';
import { ENDED_RUN_STATUSES, type EvalRunStatus } from './eval-runs.ts';
import { type JobStatus, TERMINAL_STATUSES } from './jobs.ts';
import { ENDED_EXPORT_STATUSES, type ExportStatus } from './model-exports.ts';

/** Tables with lease columns (`runner_id`, `lease_until`, `attempt`), and the statuses of their rows. */
export interface StatusOf {
  jobs: JobStatus;
  eval_runs: EvalRunStatus;
  model_exports: ExportStatus;
  batches: BatchStatus;
}
export type LeasedTable = keyof StatusOf;
export type LeasedStatus = StatusOf[LeasedTable];

const endedStatuses: Record<LeasedTable, readonly string[]> = {
  jobs: TERMINAL_STATUSES,
  eval_runs: ENDED_RUN_STATUSES,
  model_exports: ENDED_EXPORT_STATUSES,
  batches: ENDED_BATCH_STATUSES,
};

/** Tables whose rows are dispatched by queue messages. Batches take turns instead (batch-runs.ts). */
export type QueuedTable = Exclude<LeasedTable, 'batches'>;

/** Status in which a runner may take a row -> status while it is leased. */
const taken = { validating_files: 'validating_files', queued: 'running' } as const;
const takenRun = { queued: 'in_progress' } as const;
const takenStatuses: Record<QueuedTable, Partial<Record<string, string>>> = {
  jobs: taken,
  eval_runs: takenRun,
  model_exports: takenRun,
};

export interface Lease<Table extends LeasedTable = LeasedTable> {
  readonly table: Table;
  readonly id: string;
  /** Fencing token: incremented each time a runner takes the row. */
  readonly attempt: number;
  readonly runnerId: string;
  readonly leaseSeconds: number;
}

/** Another runner has taken the row, or may take it. */
export class LeaseLost extends Error {
  constructor({ id, attempt }: Lease) {
    super(`attempt ${attempt} at ${id} no longer holds its lease`);
  }
}

/** The row needs no more work: it was cancelled, or an earlier write of this run ended it. */
export class JobEnded extends Error {
  readonly status: LeasedStatus;

  constructor({ id }: Lease, status: LeasedStatus) {
    super(`${id} is ${status}`);
    this.status = status;
  }
}

export interface Runner {
  readonly id: string;
  readonly leaseSeconds: number;
}

/**
 * Locks a row; false when it is locked by another transaction. Does not wait: the caller holds the row's queue message, and the other
 * transaction may be waiting for that message (deadlock).
 */
export async function lockRow(db: Queryable, table: QueuedTable, id: string): Promise<boolean> {
  const { rowCount: locked } = await db.query(
    `select 1 from ${table} where id = $1 for no key update skip locked`,
    [id],
  );
  if (locked) return true;
  const { rowCount: found } = await db.query(`select 1 from ${table} where id = $1`, [id]);
  return !found;
}

/** Null when the row has another status or is leased by another runner. */
export async function takeLease<Table extends QueuedTable>(
  db: Queryable,
  { table, id, from }: { table: Table; id: string; from: StatusOf[Table] },
  runner: Runner,
): Promise<Lease<Table> | null> {
  const to = takenStatuses[table][from];
  const { rows } = await db.query<{ attempt: number }>(
    `update ${table} set attempt = attempt + 1, runner_id = $3, lease_until = now() + make_interval(secs => $4),
       status = $5, started_at = case when $5 = 'validating_files' then null else coalesce(started_at, now()) end
     where id = $1 and status = $2 and (lease_until is null or lease_until < now())
     returning attempt`,
    [id, from, runner.id, runner.leaseSeconds, to],
  );
  const row = rows[0];
  return row
    ? { table, id, attempt: row.attempt, runnerId: runner.id, leaseSeconds: runner.leaseSeconds }
    : null;
}

const held = 'id = $1 and attempt = $2 and runner_id = $3';

function key({ id, attempt, runnerId }: Lease): [string, number, string] {
  return [id, attempt, runnerId];
}

export function hasEnded({ table }: Lease, status: LeasedStatus): boolean {
  return endedStatuses[table].includes(status);
}

/** The heartbeat. Returns the row's status, or null when the lease is lost. The lease of a row that has ended is not extended. */
export async function extendLease<Table extends LeasedTable>(
  db: Queryable,
  lease: Lease<Table>,
): Promise<StatusOf[Table] | null> {
  const { rows } = await db.query<{ status: StatusOf[Table] }>(
    `update ${lease.table}
     set lease_until = case when status = any($5) then lease_until else now() + make_interval(secs => $4) end
     where ${held} returning status`,
    [...key(lease), lease.leaseSeconds, endedStatuses[lease.table]],
  );
  return rows[0]?.status ?? null;
}

/**
 * Runs the writes of a run in a transaction that locks its row, so that it cannot be taken, cancelled or paused meanwhile.
 * Throws LeaseLost or JobEnded without writing anything.
 */
export async function fenced<T, Table extends LeasedTable>(
  pool: pg.Pool,
  lease: Lease<Table>,
  work: (tx: pg.PoolClient, status: StatusOf[Table]) => Promise<T>,
): Promise<T> {
  return inTransaction(pool, async tx => {
    const { rows } = await tx.query<{ status: StatusOf[Table] }>(
      `select status from ${lease.table} where ${held} for no key update`,
      key(lease),
    );
    const status = rows[0]?.status;
    if (!status) throw new LeaseLost(lease);
    if (hasEnded(lease, status)) throw new JobEnded(lease, status);
    return work(tx, status);
  });
}

/** Returns the job to `status` without a runner. Call inside `fenced`. */
export async function releaseLease(db: Queryable, lease: Lease<'jobs'>, status: JobStatus): Promise<void> {
  await db.query(
    `update jobs set runner_id = null, lease_until = null, estimated_finish = null, status = $4 where ${held}`,
    [...key(lease), status],
  );
}

/** Makes the sweep clean up a job that has ended. */
export async function letLeaseRunOut(db: Queryable, jobId: string): Promise<void> {
  await db.query('update jobs set lease_until = now() where id = $1', [jobId]);
}

/** Marks a job that has ended as cleaned up. */
export async function endLease(db: Queryable, jobId: string): Promise<void> {
  await db.query('update jobs set lease_until = null where id = $1 and status = any($2)', [
    jobId,
    TERMINAL_STATUSES,
  ]);
}

/** For a job that was paused and resumed before its runner noticed: it continues. */
export async function goOnRunning(db: Queryable, lease: Lease<'jobs'>): Promise<void> {
  await db.query(`update jobs set status = 'running' where ${held} and status = 'queued'`, key(lease));
}

export interface LostJob {
  id: string;
  status: JobStatus;
  attempt: number;
  lostLeases: number;
}

/** Removes expired leases: running jobs become queued, the others keep their status. */
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
  /** Whether a runner has already worked on it. */
  started: boolean;
}

/** Jobs that wait for a runner, and so should have a queue message. */
export async function findWaitingJobs(db: Queryable): Promise<WaitingJob[]> {
  const { rows } = await db.query<WaitingJob>(
    `select id, status, started_at is not null as started from jobs
     where status in ('validating_files', 'queued') and lease_until is null order by created_at, id`,
  );
  return rows;
}

// ---- eval runs and exports: queued, in progress, ended

export type SimpleTable = Exclude<QueuedTable, 'jobs'>;

/** Returns the row to the queue. Call inside `fenced`. Returns the number of crashes since it last made progress. */
export async function giveBack(
  db: Queryable,
  { table, id }: Lease<SimpleTable>,
  broke: boolean,
): Promise<number> {
  const { rows } = await db.query<{ crashes: number }>(
    `update ${table} set status = 'queued', runner_id = null, lease_until = null, crashes = crashes + $2
     where id = $1 returning crashes`,
    [id, Number(broke)],
  );
  return rows[0]!.crashes;
}

export interface LostRow {
  id: string;
  attempt: number;
  crashes: number;
  projectId: string;
}

/** Removes expired leases and queues their rows. */
export async function takeBackLost(db: Queryable, table: SimpleTable): Promise<LostRow[]> {
  const { rows } = await db.query<LostRow>(
    `update ${table} set runner_id = null, lease_until = null, crashes = crashes + 1, status = 'queued'
     where id in (
       select id from ${table} where lease_until < now() and status in ('queued', 'in_progress') for update skip locked)
     returning id, attempt, crashes, project_id as "projectId"`,
  );
  return rows;
}

/** Rows that wait for a runner, and so should have a queue message. */
export async function findWaiting(
  db: Queryable,
  table: SimpleTable,
): Promise<{ id: string; started: boolean }[]> {
  const { rows } = await db.query<{ id: string; started: boolean }>(
    `select id, started_at is not null as started from ${table}
     where status = 'queued' and lease_until is null order by created_at, id`,
  );
  return rows;
}
