// Takes messages while there is free capacity. One transaction fetches a message, takes the lease on its row and deletes the message. From
// then on the lease decides, so a run may last longer than pg-boss' limit for a message.
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
  /** Notifications on QUEUE_CHANNEL. */
  readonly arrivals: Notifications;
}

/** Table that the messages of a queue refer to, and the status in which a row may be taken. */
const rowsOf = {
  'validate-files': { table: 'jobs', from: 'validating_files' },
  train: { table: 'jobs', from: 'queued' },
  evaluate: { table: 'eval_runs', from: 'queued' },
  export: { table: 'model_exports', from: 'queued' },
} as const satisfies Record<string, { table: QueuedTable; from: string }>;
type WorkQueue = keyof typeof rowsOf;

export interface Work<Queue extends WorkQueue = WorkQueue> {
  readonly queue: Queue;
  /** Concurrent runs. */
  readonly hands: number;
  /** Must not throw. */
  handle(lease: Lease<(typeof rowsOf)[Queue]['table']>): Promise<void>;
}

/** Polling interval, for lost notifications. */
const LOOK_MS = 2_000;

const BUSY_MS = 20;

/** The row of the next message is locked by another transaction. */
class JobBusy extends Error {}

/** Returns the stop function: it takes no further messages and waits for the current runs. */
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

/** Null when there is no message, or the database is unavailable. */
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

/** A message for a row that needs no work is removed; its lease is null. */
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
