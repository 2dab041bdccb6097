// Executes an eval run under its lease: evaluates the items that are not done yet, several concurrently, and stores each when it is graded.
// After a crash, the run continues with the remaining items. Answering and grading an item is in src/evaluation.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import type { Config } from '../config.ts';
import { ApiError } from '../errors.ts';
import { modelTools } from '../evaluation/ask-model.ts';
import { evaluateItem, type ItemPlan, type SourceItem } from '../evaluation/eval-item.ts';
import type { GraderApi } from '../evaluation/grader-api.ts';
import { readSampling } from '../evaluation/run-sampling.ts';
import type { PythonSandbox } from '../evaluation/sandbox/sandbox.ts';
import type { Logger } from '../log.ts';
import { LimitReached } from '../metering/admission.ts';
import type { UsageRecorder } from '../metering/usage-recorder.ts';
import type { GenerationClient } from '../serving/client.ts';
import {
  endRun,
  type LeasedRun,
  type RunError,
  readDoneItems,
  readLeasedRun,
  writeOutputItem,
} from '../store/eval-runs.ts';
import { fenced, giveBack, JobEnded, type Lease, LeaseLost } from '../store/leases.ts';
import type { Notifications } from '../store/notifications.ts';
import { errorReason } from './crash.ts';
import { readItems, SourceFailure } from './eval-source.ts';
import { keepLease } from './lease-keeper.ts';
import type { Queue } from './queue.ts';
import { untilItWorks } from './retry.ts';

export interface EvaluateDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
  readonly generation: GenerationClient;
  readonly python: PythonSandbox;
  readonly usage: UsageRecorder;
  readonly graderApi: GraderApi | null;
  readonly control: Notifications;
  /** Aborted when the worker shuts down. */
  readonly closing: AbortSignal;
}

type RunLease = Lease<'eval_runs'>;

/** Concurrent items of a run: their answers are generated in shared batches. */
const ITEMS_AT_ONCE = 8;
/** Longest wait for a rate limit of the project; a minute refills the per-minute buckets. A run that would wait longer is requeued. */
const PATIENCE_SECONDS = 60;
/** Without a finished item in between. */
const MAX_CRASHES = 3;

/** Never throws: the run has ended, or another worker can take it. */
export async function evaluate(deps: EvaluateDeps, lease: RunLease): Promise<void> {
  const log = deps.log.child({ run: lease.id, attempt: lease.attempt });
  const keeper = keepLease({ ...deps, log }, lease);
  const signal = AbortSignal.any([keeper.signal, deps.closing]);
  try {
    const end = await evaluateRun({ ...deps, log }, lease, signal).catch(error =>
      toEnd(error, deps, log, signal),
    );
    await settle({ ...deps, log }, lease, keeper.signal, end);
  } catch (error) {
    const reason = keeper.signal.aborted ? keeper.signal.reason : error;
    if (reason instanceof LeaseLost || reason instanceof JobEnded) log.info(reason.message);
    else log.error({ error: reason }, 'the end of a run was not written; its lease will run out');
  } finally {
    keeper.close();
  }
}

type End =
  | { type: 'completed' }
  | { type: 'failed'; error: RunError }
  | { type: 'stopped' }
  /** For a rate limit of its project. */
  | { type: 'waits'; seconds: number }
  | { type: 'crashed'; reason: string };

/** An unexpected error counts as a crash: the run is retried a limited number of times. */
function toEnd(error: unknown, { closing }: EvaluateDeps, log: Logger, signal: AbortSignal): End {
  if (error instanceof LeaseLost || error instanceof JobEnded) throw error;
  if (signal.aborted && !closing.aborted) throw signal.reason;
  if (closing.aborted) return { type: 'stopped' };
  if (error instanceof LimitReached) return { type: 'waits', seconds: error.seconds };
  if (error instanceof SourceFailure)
    return { type: 'failed', error: { code: error.code, message: error.message } };
  if (error instanceof ApiError)
    return { type: 'failed', error: { code: error.kind, message: error.message } };
  log.error({ error }, 'a run broke off');
  return { type: 'crashed', reason: errorReason(error) };
}

async function evaluateRun(deps: EvaluateDeps, lease: RunLease, signal: AbortSignal): Promise<End> {
  const retry = { log: deps.log, signal };
  const { pool } = deps;
  const run = await untilItWorks(() => readLeasedRun(pool, lease.id), { what: 'reading the run', ...retry });
  if (!run) throw new LeaseLost(lease);
  const done = await untilItWorks(() => readDoneItems(pool, run.id), { what: 'reading items', ...retry });
  deps.log.info({ done: done.size }, 'an evaluation runs');
  const plan = planOf(deps, run);
  await forEachAtOnce(readItems({ ...deps, signal }, run), ITEMS_AT_ONCE, async (source: SourceItem) => {
    if (done.has(source.index)) return;
    signal.throwIfAborted();
    const made = await evaluateItem(plan, source, signal);
    const write = () => fenced(pool, lease, tx => writeOutputItem(tx, run.id, made));
    await untilItWorks(write, { what: 'writing an item', ...retry });
  });
  return { type: 'completed' };
}

function planOf(deps: EvaluateDeps, run: LeasedRun): ItemPlan {
  return {
    criteria: run.testingCriteria,
    dataSource: run.dataSource,
    sampling: readSampling(run.dataSource),
    tools: { ...modelTools(deps, run, PATIENCE_SECONDS), python: deps.python, owner: run.id },
  };
}

/** Runs `work` on at most `most` items concurrently. After the first failure it waits for the running ones and throws. */
async function forEachAtOnce<T>(
  items: AsyncIterable<T>,
  most: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.asyncIterator]();
  let ended = false;
  const hand = async (): Promise<void> => {
    while (!ended) {
      const next = await iterator.next();
      if (next.done) return;
      await work(next.value);
    }
  };
  const hands = Array.from({ length: most }, () =>
    hand().catch(error => {
      ended = true;
      throw error;
    }),
  );
  const results = await Promise.allSettled(hands);
  await iterator.return?.();
  const failure = results.find(result => result.status === 'rejected');
  if (failure) throw failure.reason;
}

async function settle(
  { pool, log, queue }: EvaluateDeps,
  lease: RunLease,
  signal: AbortSignal,
  end: End,
): Promise<void> {
  const write = () =>
    fenced(pool, lease, async tx => {
      const run = (await readLeasedRun(tx, lease.id))!;
      if (end.type === 'completed') return endRun(tx, run, null);
      if (end.type === 'failed') return endRun(tx, run, end.error);
      const crashes = await giveBack(tx, lease, end.type === 'crashed');
      if (end.type === 'crashed' && crashes >= MAX_CRASHES)
        return endRun(tx, run, {
          code: 'server_error',
          message: `The run broke off ${crashes} times: ${end.reason}`,
        });
      const afterSeconds = end.type === 'waits' ? Math.ceil(end.seconds) : 0;
      await queue.enqueueEvaluation(run.id, { client: tx, first: true, afterSeconds });
    });
  await untilItWorks(write, { what: 'writing the end', log, signal });
  log.info({ end: end.type }, 'the run is over');
}
