// Executes a training job under its lease: fetches the inputs, runs the trainer process, persists what it reports. Here are processes,
// objects and rows; the arithmetic is in src/training.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import type { Logger } from '../log.ts';
import type { TrainingMetrics } from '../monitoring/worker-metrics.ts';
import type { ModelCache } from '../serving/model-cache.ts';
import { appendEvents } from '../store/events.ts';
import type { JobStatus } from '../store/jobs.ts';
import { fenced, goOnRunning, JobEnded, type Lease, LeaseLost, releaseLease } from '../store/leases.ts';
import type { Notifications } from '../store/notifications.ts';
import { countCrash, findResumePoint, readRun, writeFailure } from '../store/runs.ts';
import type { Store } from './artifacts.ts';
import { crashMessage, crashReason, errorReason } from './crash.ts';
import { cleanEndedJob } from './garbage.ts';
import { answerGrader, type GradeDeps } from './grade-answers.ts';
import { InputMissing, prepareSpec } from './inputs.ts';
import { keepLease, type LeaseKeeper } from './lease-keeper.ts';
import type { Queue } from './queue.ts';
import { type Recorder, type RunEnd, recordRun } from './record.ts';
import { untilItWorks } from './retry.ts';
import * as say from './run-events.ts';
import { startTrainer, type Trainer } from './trainer.ts';
import type { WorkDirectory } from './work-directory.ts';

export interface TrainDeps extends GradeDeps {
  readonly blobs: Blobs;
  readonly queue: Queue;
  readonly control: Notifications;
  readonly work: WorkDirectory;
  readonly models: ModelCache;
  /** Aborted when the worker shuts down. */
  readonly closing: AbortSignal;
  /** Observes steps and ends. */
  readonly metrics?: TrainingMetrics | undefined;
  /** Replaces the trainer's module in tests. */
  readonly trainerModule?: string;
}

/** Time for the trainer to write a checkpoint when the worker shuts down. */
const CLOSING_MS = 8_000;
/** Without a checkpoint in between. */
const MAX_CRASHES = 3;

/** Never throws: the job has ended, or another worker can take it. */
export async function train(deps: TrainDeps, lease: Lease<'jobs'>): Promise<void> {
  const log = deps.log.child({ job: lease.id, attempt: lease.attempt });
  const keeper = keepLease({ ...deps, log }, lease);
  const folder = `${lease.id}.${lease.attempt}`;
  try {
    const end = await run({ ...deps, log }, lease, keeper, folder);
    await settle({ ...deps, log }, lease, keeper, end);
    deps.metrics?.ended(end.type);
  } catch (error) {
    logEnd(log, keeper.signal.aborted ? keeper.signal.reason : error);
  } finally {
    keeper.close();
    await deps.work.remove(folder).catch(error => log.warn({ error }, 'a work folder was not removed'));
    await cleanEndedJob(deps, lease).catch(error => log.warn({ error }, 'a job was not cleaned up'));
  }
}

function logEnd(log: Logger, reason: unknown): void {
  if (reason instanceof LeaseLost || reason instanceof JobEnded) log.info(reason.message);
  else log.error({ error: reason }, 'the end of a run was not written; its lease will run out');
}

/** How a run ended, if it still holds the lease. */
type End = RunEnd | { type: 'stopped' } | { type: 'crashed'; reason: string };

/** An unexpected error counts as a crash: the job is retried a limited number of times. */
async function run(deps: TrainDeps, lease: Lease<'jobs'>, keeper: LeaseKeeper, folder: string): Promise<End> {
  try {
    return await prepareAndFollow(deps, lease, keeper, await deps.work.open(folder));
  } catch (error) {
    if (error instanceof InputMissing) return { type: 'failed', error: error.jobError };
    if (keeper.signal.aborted || error instanceof LeaseLost || error instanceof JobEnded) throw error;
    deps.log.error({ error }, 'a run broke off');
    return { type: 'crashed', reason: errorReason(error) };
  }
}

async function prepareAndFollow(
  deps: TrainDeps,
  lease: Lease<'jobs'>,
  keeper: LeaseKeeper,
  directory: string,
): Promise<End> {
  const { log, pool, blobs } = deps;
  const store: Store = { blobs, log, signal: keeper.signal };
  const job = await untilItWorks(() => readRun(pool, lease.id), { what: 'reading the job', ...store });
  await untilItWorks(() => fenced(pool, lease, tx => appendEvents(tx, job.id, [say.started])), {
    what: 'writing the start',
    ...store,
  });
  const spec = await prepareSpec({ ...deps, store }, job, directory);
  const specPath = join(directory, 'spec.json');
  await writeFile(specPath, JSON.stringify(spec, null, 2));
  const recorder: Recorder = { ...deps, store, lease, job, directory };
  const over = new AbortController();
  const grade = answerGrader(deps, job, AbortSignal.any([keeper.signal, over.signal]));
  try {
    return await follow(recorder, deps, keeper, () =>
      startTrainer(specPath, { module: deps.trainerModule, grade }),
    );
  } finally {
    over.abort(); // nobody waits for grades any more
  }
}

/** Runs the trainer until its process has ended and all of its messages are stored. */
async function follow(
  recorder: Recorder,
  { pool, log, closing, metrics }: TrainDeps,
  keeper: LeaseKeeper,
  start: () => Trainer,
): Promise<End> {
  if (closing.aborted) return { type: 'stopped' };
  const trainer = start();
  log.info({ trainer: trainer.pid }, 'the trainer runs');
  const pausing = pauseOnce(trainer);
  const hear = (status: JobStatus) => {
    if (status === 'paused') pausing.begin();
    if (status === 'queued' && !pausing.begun())
      void goOnRunning(pool, recorder.lease).catch(error => log.warn({ error }, 'a heartbeat failed'));
  };
  const close = () => pausing.begin(CLOSING_MS);
  keeper.onStatus(hear);
  keeper.signal.addEventListener('abort', trainer.kill);
  closing.addEventListener('abort', close);
  try {
    const run = { jobId: recorder.job.id, attempt: recorder.lease.attempt };
    const end = await recordRun(recorder, metrics?.follow(trainer.events, run) ?? trainer.events);
    keeper.signal.throwIfAborted();
    if (end) return end;
    if (closing.aborted) return { type: 'stopped' };
    return { type: 'crashed', reason: crashReason(await trainer.ended) };
  } finally {
    pausing.end();
    closing.removeEventListener('abort', close);
    keeper.signal.removeEventListener('abort', trainer.kill);
    trainer.kill();
    const { output } = await trainer.ended;
    if (output) log.warn({ output }, 'the trainer wrote to its error output');
  }
}

/** Tells the trainer to pause, once, and kills it after `killAfterMs` if given. */
function pauseOnce(trainer: Trainer) {
  let told = false;
  let timer: NodeJS.Timeout | undefined;
  return {
    begun: () => told,
    begin(killAfterMs?: number) {
      if (killAfterMs !== undefined) timer ??= setTimeout(trainer.kill, killAfterMs);
      if (!told) trainer.tell({ type: 'pause' });
      told = true;
    },
    end: () => clearTimeout(timer),
  };
}

// ---- ends

async function settle(deps: TrainDeps, lease: Lease<'jobs'>, keeper: LeaseKeeper, end: End): Promise<void> {
  if (end.type === 'succeeded') return;
  const { pool, log, queue } = deps;
  await untilItWorks(
    () =>
      fenced(pool, lease, async (tx, status) => {
        if (end.type === 'failed') return fail(tx, lease, end.error);
        if (end.type === 'crashed' && !(await mayGoOn(tx, lease, end.reason))) return;
        const left: JobStatus = status === 'paused' ? 'paused' : 'queued';
        await releaseLease(tx, lease, left);
        if (left === 'queued') await queue.enqueueTraining(lease.id, { client: tx, first: true });
      }),
    { what: 'writing the end', log, signal: keeper.signal },
  );
  log.info({ end: end.type }, 'the run is over');
}

async function fail(
  tx: pg.PoolClient,
  lease: Lease<'jobs'>,
  error: { code: string; message: string; param: string | null },
) {
  await writeFailure(tx, lease.id, error);
  await appendEvents(tx, lease.id, [say.failed(error.message)]);
}

/** Counts a crash of the trainer; fails the job after too many. */
async function mayGoOn(tx: pg.PoolClient, lease: Lease<'jobs'>, reason: string): Promise<boolean> {
  const crashes = await countCrash(tx, lease.id);
  if (crashes >= MAX_CRASHES) {
    await fail(tx, lease, { code: 'server_error', message: crashMessage(reason, crashes), param: null });
    return false;
  }
  const point = await findResumePoint(tx, lease.id);
  await appendEvents(tx, lease.id, [say.interrupted(lease.attempt, reason, point?.step ?? null)]);
  return true;
}
