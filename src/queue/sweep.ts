// Recovers lost work: expired leases, rows without a queue message, ended jobs that were not cleaned up.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import type { Logger } from '../log.ts';
import { inTransaction } from '../store/database.ts';
import { endRun } from '../store/eval-runs.ts';
import { appendEvents } from '../store/events.ts';
import {
  findWaiting,
  findWaitingJobs,
  type LostJob,
  type LostRow,
  letLeaseRunOut,
  type SimpleTable,
  takeBackLost,
  takeBackLostJobs,
} from '../store/leases.ts';
import { endExport } from '../store/model-exports.ts';
import { QUEUE_CHANNEL } from '../store/notifications.ts';
import { findResumePoint, findUncleanJobs, writeFailure } from '../store/runs.ts';
import { cleanEndedJob } from './garbage.ts';
import { dbOf, FIRST_PRIORITY, type Queue, type QueueName } from './queue.ts';
import * as say from './run-events.ts';

export interface SweepDeps {
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
}

/** Without a checkpoint in between. A limit, since a job may take its worker's machine down each time. */
const MAX_LOST_LEASES = 20;

/** Safe to run concurrently in several workers. */
export async function sweep(deps: SweepDeps): Promise<void> {
  const lost = await inTransaction(deps.pool, takeBack);
  for (const job of lost) deps.log.warn({ job: job.id, attempt: job.attempt }, 'a lease ran out');
  await takeBackOthers(deps);
  await sendMissingMessages(deps);
  await cleanEndedJobs(deps);
}

async function takeBack(tx: pg.PoolClient): Promise<LostJob[]> {
  const lost = await takeBackLostJobs(tx);
  for (const job of lost) {
    if (job.lostLeases >= MAX_LOST_LEASES) await giveUp(tx, job);
    else if (job.status === 'queued') await tell(tx, job);
  }
  return lost;
}

async function tell(tx: pg.PoolClient, job: LostJob): Promise<void> {
  const point = await findResumePoint(tx, job.id);
  const why = 'The worker that ran the job was lost';
  await appendEvents(tx, job.id, [say.interrupted(job.attempt, why, point?.step ?? null)]);
}

async function giveUp(tx: pg.PoolClient, job: LostJob): Promise<void> {
  const message = `The worker was lost ${job.lostLeases} times in a row without reaching a checkpoint. If the job takes more memory than its machine has, lower max_length, batch_size or rank in the hyperparameters of the method, or give the worker more.`;
  await writeFailure(tx, job.id, { code: 'server_error', message, param: null });
  await letLeaseRunOut(tx, job.id); // whoever sweeps next removes its objects
  await appendEvents(tx, job.id, [say.failed(message)]);
}

type Waiting = { id: string; started: boolean };

const LOST = { code: 'server_error', message: 'The worker was lost repeatedly without making progress.' };

/** For eval runs and exports: their queue, and how one that was lost too often is failed. */
const others = {
  eval_runs: { queue: 'evaluate', giveUp: (tx, row) => endRun(tx, row, LOST) },
  model_exports: { queue: 'export', giveUp: (tx, row) => endExport(tx, row.id, { error: LOST }) },
} as const satisfies Record<
  SimpleTable,
  { queue: QueueName; giveUp(tx: pg.PoolClient, row: LostRow): Promise<void> }
>;
const otherTables = Object.keys(others) as SimpleTable[];

async function takeBackOthers({ pool, log }: SweepDeps): Promise<void> {
  for (const table of otherTables) {
    const lost = await inTransaction(pool, async tx => {
      const rows = await takeBackLost(tx, table);
      for (const row of rows) if (row.crashes >= MAX_LOST_LEASES) await others[table].giveUp(tx, row);
      return rows;
    });
    for (const { id, attempt } of lost) log.warn({ id, attempt }, 'a lease ran out');
  }
}

const queueOf = { validating_files: 'validate-files', queued: 'train' } as const;

/** Jobs that already have a message are not sent another. */
async function sendMissingMessages({ pool, queue }: SweepDeps): Promise<void> {
  const waiting = await findWaitingJobs(pool);
  const byQueue = new Map<QueueName, Waiting[]>(Map.groupBy(waiting, job => queueOf[job.status]));
  for (const table of otherTables) byQueue.set(others[table].queue, await findWaiting(pool, table));
  for (const [name, jobs] of byQueue) {
    if (jobs.length === 0) continue;
    const messages = jobs.map(({ id, started }) => ({
      data: { jobId: id },
      singletonKey: id,
      priority: started ? FIRST_PRIORITY : 0,
    }));
    const db = dbOf(pool);
    const sent = await queue.boss.insert(name, messages, { db, returnId: true });
    if (sent?.length) await pool.query('select pg_notify($1, $2)', [QUEUE_CHANNEL, name]);
  }
}

async function cleanEndedJobs({ pool, blobs }: SweepDeps): Promise<void> {
  for (const id of await findUncleanJobs(pool)) {
    await cleanEndedJob({ pool, blobs }, { id, attempt: Number.POSITIVE_INFINITY });
  }
}
