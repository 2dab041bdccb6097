// Takes messages as long as there are free hands. A message is taken, the job's lease with it, and the message removed in
// one transaction: from then on the lease says who works, and a run may take longer than any message lives.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from '../log.ts';
import { inTransaction } from '../store/database.ts';
import { type Lease, lockRow, type QueuedTable, type Runner, takeLease } from '../store/leases.ts';
import type { Notifications } from '../store/notifications.ts';
import { openBell } from './bell.ts';
import { type Outage, openOutage } from './outage.ts';
import { dbOf, type Queue } from './queue.ts';

export interface TakeDeps {
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly queue: Queue;
  readonly runner: Runner;
  /** Of the channel that tells of new messages. */
  readonly arrivals: Notifications;
}

/** Which row a message of a queue names, and in which status it is to be worked on. */
const rowsOf = {
  'validate-files': { table: 'jobs', from: 'validating_files' },
  train: { table: 'jobs', from: 'queued' },
  evaluate: { table: 'eval_runs', from: 'queued' },
  export: { table: 'model_exports', from: 'queued' },
} as const satisfies Record<string, { table: QueuedTable; from: string }>;
type WorkQueue = keyof typeof rowsOf;

export interface Work<Queue extends WorkQueue = WorkQueue> {
  readonly queue: Queue;
  /** Jobs at once. */
  readonly hands: number;
  /** Must not throw. */
  handle(lease: Lease<(typeof rowsOf)[Queue]['table']>): Promise<void>;
}

/** Notifications come sooner; this is for those that were missed. */
const LOOK_MS = 2_000;

const BUSY_MS = 20;

/** Somebody is writing to the job that the next message names. */
class JobBusy extends Error {}

/** Returns how to stop: no new job is taken, and those in hand are waited for. */
export function takeWork<Queue extends WorkQueue>(deps: TakeDeps, work: Work<Queue>): () => Promise<void> {
  const stopping = new AbortController();
  const bell = openBell();
  const unsubscribe = deps.arrivals.subscribe(null, bell.ring);
  const inHand = new Set<Promise<void>>();
  const outage = openOutage(deps.log, 'reading the queue', { queue: work.queue });

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      const taken = inHand.size < work.hands ? await takeOrLog(deps, work.queue, outage) : null;
      if (taken?.lease) hold(work.handle(taken.lease as Parameters<typeof work.handle>[0]));
      if (!taken) await bell.wait(LOOK_MS, stopping.signal);
    }
    await Promise.all(inHand);
  }

  function hold(job: Promise<void>): void {
    inHand.add(job);
    void job.finally(() => {
      inHand.delete(job);
      bell.ring();
    });
  }

  const ended = loop();
  return async () => {
    stopping.abort();
    unsubscribe();
    bell.ring();
    await ended;
  };
}

/** Null when there is nothing to take, or the database is away. */
async function takeOrLog(
  deps: TakeDeps,
  queue: WorkQueue,
  outage: Outage,
): Promise<{ lease: Lease | null } | null> {
  try {
    const taken = await takeNext(deps, queue);
    outage.over();
    return taken;
  } catch (error) {
    if (error instanceof JobBusy) {
      await sleep(BUSY_MS);
      return { lease: null };
    }
    outage.failed(error);
    return null;
  }
}

/** A message for a job that needs nothing is taken, too, with no lease. */
async function takeNext(
  { pool, queue, runner }: TakeDeps,
  name: WorkQueue,
): Promise<{ lease: Lease | null } | null> {
  return inTransaction(pool, async tx => {
    const db = dbOf(tx);
    const [message] = await queue.boss.fetch<{ jobId: string }>(name, { db });
    if (!message) return null;
    const { table, from } = rowsOf[name];
    if (!(await lockRow(tx, table, message.data.jobId))) throw new JobBusy(); // the message stays where it was
    await queue.boss.deleteJob(name, message.id, { db });
    return { lease: await takeLease(tx, { table, id: message.data.jobId, from }, runner) };
  });
}
