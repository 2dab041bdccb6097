// The queue: pg-boss messages that tell a worker to look at a row. State and lease are in the row itself (store/leases.ts).
import { type Db, PgBoss, type Queue as QueueOptions } from 'pg-boss';
import type { Queryable } from '../store/database.ts';
import { QUEUE_CHANNEL } from '../store/notifications.ts';

/** A message names a job, an eval run or an export. Those of the last two queues are scheduled and empty. */
export const queueNames = [
  'validate-files',
  'train',
  'evaluate',
  'export',
  'expire-files',
  'sweep-objects',
] as const;
export type QueueName = (typeof queueNames)[number];

export interface SendOptions {
  /** Client of the caller's transaction: the message is sent when it commits. */
  client?: Queryable;
  /** Ahead of jobs that have not started: for a job that was interrupted. */
  first?: boolean;
  /** Delay before the message may be taken. */
  afterSeconds?: number;
}

export const FIRST_PRIORITY = 1;

export interface Queue {
  /** Does nothing for a job that already has a waiting message. */
  enqueueValidation(jobId: string, options?: SendOptions): Promise<void>;
  enqueueTraining(jobId: string, options?: SendOptions): Promise<void>;
  enqueueEvaluation(runId: string, options?: SendOptions): Promise<void>;
  enqueueExport(exportId: string, options?: SendOptions): Promise<void>;
  /** Throws when the queue does not work. */
  check(): Promise<void>;
  close(): Promise<void>;
  /** For the worker, which takes messages. */
  readonly boss: PgBoss;
}

/** At most one waiting message per job. A message held by a dead worker is delivered again after a minute. */
const jobQueue = {
  policy: 'exclusive',
  expireInSeconds: 60,
  retryLimit: 1000,
  retentionSeconds: 365 * 86400,
  deleteAfterSeconds: 3600,
} satisfies Omit<QueueOptions, 'name'>;

/** One message at a time, without retries: the next scheduled one does the work. */
const clockQueue = {
  policy: 'exclusive',
  expireInSeconds: 600,
  retryLimit: 0,
  deleteAfterSeconds: 3600,
} satisfies Omit<QueueOptions, 'name'>;

const settings = {
  'validate-files': jobQueue,
  train: jobQueue,
  evaluate: jobQueue,
  export: jobQueue,
  'expire-files': clockQueue,
  'sweep-objects': { ...clockQueue, expireInSeconds: 6 * 3600 },
} satisfies Record<QueueName, Omit<QueueOptions, 'name'>>;

/** Every minute, and every night. */
const schedules: Partial<Record<QueueName, string>> = {
  'expire-files': '* * * * *',
  'sweep-objects': '17 3 * * *',
};

/** Creates pg-boss' tables (its version is pinned) and our queues. Safe to run concurrently. */
export async function migrateQueue(databaseUrl: string): Promise<void> {
  const boss = new PgBoss({ connectionString: databaseUrl, max: 2, supervise: false, schedule: false });
  let failure: Error | undefined;
  boss.on('error', error => {
    failure ??= error;
  });
  await boss.start();
  try {
    for (const name of queueNames) await createQueue(boss, name);
    for (const [name, cron] of Object.entries(schedules)) await boss.schedule(name, cron);
    if (failure) throw failure;
  } finally {
    await boss.stop({ graceful: false });
  }
}

async function createQueue(boss: PgBoss, name: QueueName): Promise<void> {
  const { policy: _, ...changeable } = settings[name];
  await boss.createQueue(name, settings[name]);
  await boss.updateQueue(name, changeable);
}

export interface QueueSettings {
  /** Called when background work of pg-boss fails; it recovers by itself. */
  onError?(error: Error): void;
  /** True in a worker, which then also runs pg-boss' maintenance (expired messages, schedules). */
  supervise?: boolean;
}

/** Throws when `migrate` has not run. */
export async function openQueue(databaseUrl: string, options: QueueSettings = {}): Promise<Queue> {
  const supervise = options.supervise ?? false;
  const boss = new PgBoss({
    connectionString: databaseUrl,
    application_name: 'anneal queue',
    max: 3,
    migrate: false,
    createSchema: false,
    registerInstance: false,
    supervise,
    schedule: supervise,
    superviseIntervalSeconds: 15,
    monitorIntervalSeconds: 15,
    openTelemetry: { enabled: false },
  });
  boss.on('error', error => options.onError?.(error));
  await start(boss);
  return {
    boss,
    enqueueValidation: (jobId, options = {}) => send(boss, 'validate-files', jobId, options),
    enqueueTraining: (jobId, options = {}) => send(boss, 'train', jobId, options),
    enqueueEvaluation: (runId, options = {}) => send(boss, 'evaluate', runId, options),
    enqueueExport: (exportId, options = {}) => send(boss, 'export', exportId, options),
    async check() {
      if (!(await boss.getQueue('train'))) throw new Error('the queue is not set up: run `migrate`');
    },
    close: () => boss.stop({ graceful: false }),
  };
}

async function start(boss: PgBoss): Promise<void> {
  try {
    await boss.start();
  } catch (cause) {
    await boss.stop({ graceful: false }).catch(() => undefined);
    throw new Error(`the queue does not start: ${(cause as Error).message}`, { cause });
  }
}

async function send(
  boss: PgBoss,
  name: QueueName,
  jobId: string,
  { client, first, afterSeconds = 0 }: SendOptions,
): Promise<void> {
  const db = client ? dbOf(client) : boss.getDb();
  const priority = first ? FIRST_PRIORITY : 0;
  await boss.send(name, { jobId }, { singletonKey: jobId, priority, startAfter: afterSeconds, db });
  await db.executeSql('select pg_notify($1, $2)', [QUEUE_CHANNEL, name]);
}

/** The client of a transaction, in the form that pg-boss takes. */
export function dbOf(client: Queryable): Db {
  return { executeSql: (text, values) => client.query(text, values as unknown[]) };
}
