// Reports jobs to a Weights & Biases server: hyperparameters, the metrics of each step, the result. The progress of each run is a leased
// row: if a worker is killed, another one continues, and lines that are sent again are written at the same offset.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { appendHistory, upsertRun, type WandbPlace, type WandbServer } from '../integrations/wandb.ts';
import type { Logger } from '../log.ts';
import { appendEvents } from '../store/events.ts';
import { TERMINAL_STATUSES } from '../store/jobs.ts';
import { listSteps } from '../store/metrics.ts';
import { type DueWandbRun, takeDueWandbRun, writeWandbState } from '../store/wandb-runs.ts';
import { type Outage, openOutage } from './outage.ts';

export interface WandbDeps {
  readonly log: Logger;
  readonly pool: pg.Pool;
}

const LOOK_MS = 2_000;
/** Longer than the requests for one run take, with their timeouts. */
const LEASE_SECONDS = 120;
/** Between reports while a job is running. */
const PAUSE_SECONDS = 5;
const STEPS_AT_ONCE = 1000;
const LONGEST_PAUSE_SECONDS = 3600;
/** How long after the job's end an unavailable server is retried. */
const GIVE_UP_MS = 72 * 3600_000;

/** Returns the stop function, which waits for the running report. */
export function followOnWandb(deps: WandbDeps, server: WandbServer): () => Promise<void> {
  const stopping = new AbortController();
  const outage = openOutage(deps.log, 'reading which runs are followed on wandb');
  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      if (!(await followNext(deps, server, outage))) await pause(stopping.signal);
    }
  }
  const ended = loop();
  return async () => {
    stopping.abort();
    await ended;
  };
}

const pause = (signal: AbortSignal) => sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);

/** Whether a run was due. */
async function followNext(deps: WandbDeps, server: WandbServer, outage: Outage): Promise<boolean> {
  try {
    const run = await takeDueWandbRun(deps.pool, LEASE_SECONDS);
    outage.over();
    if (!run) return false;
    await follow(deps, server, run).catch(error => noteFailure(deps, run, error as Error));
    return true;
  } catch (error) {
    outage.failed(error);
    return false;
  }
}

async function follow({ pool }: WandbDeps, server: WandbServer, run: DueWandbRun): Promise<void> {
  const hasEnded = TERMINAL_STATUSES.includes(run.status);
  if (!run.startedAt && !hasEnded) return writeState(pool, run, PAUSE_SECONDS);
  // before the first line for the resolved hyperparameters, and at the end for the result
  const place = run.sentLines > 0 && !hasEnded ? knownPlace(run) : await upsert(server, run);
  const { rows, hasMore } = await listSteps(pool, run.jobId, {
    after: run.sentStep,
    limit: STEPS_AT_ONCE,
    order: 'asc',
  });
  const lines = rows.map(({ step, metrics: { seconds, ...metrics } }) => ({ _step: step, ...metrics }));
  const isLast = hasEnded && !hasMore;
  const exitCode = isLast ? (run.status === 'succeeded' ? 0 : 1) : null;
  if (lines.length > 0 || isLast)
    await appendHistory(server, place, { offset: run.sentLines, lines, exitCode });
  const next = hasMore ? 0 : PAUSE_SECONDS;
  const sent = {
    ...run,
    ...place,
    failures: 0,
    sentLines: run.sentLines + lines.length,
    sentStep: rows.at(-1)?.step ?? run.sentStep,
  };
  await writeState(pool, sent, isLast ? null : next);
}

const runId = ({ jobId, position }: DueWandbRun): string =>
  position === 0 ? jobId : `${jobId}-${position + 1}`;

const knownPlace = (run: DueWandbRun): WandbPlace => ({
  entity: run.entity!,
  project: run.project!,
  id: runId(run),
});

function upsert(server: WandbServer, run: DueWandbRun): Promise<WandbPlace> {
  const { integration, jobId, model } = run;
  return upsertRun(server, {
    id: runId(run),
    project: integration.project,
    entity: integration.entity,
    displayName: integration.name ?? jobId,
    tags: [...integration.tags, 'openai/finetune', `openai/${model}`, `openai/${jobId}`],
    config: {
      ...run.hyperparameters,
      ...(run.metadata ? { metadata: run.metadata } : {}),
      job: jobId,
      model,
      seed: run.seed,
      status: run.status,
      fine_tuned_model: run.fineTunedModel,
      trained_tokens: run.trainedTokens,
    },
  });
}

const writeState = (pool: pg.Pool, run: Omit<DueWandbRun, 'id'>, nextSeconds: number | null): Promise<void> =>
  writeWandbState(pool, run, { ...run, nextSeconds });

/** Does not affect the job; the user is told by one event. */
async function noteFailure({ pool, log }: WandbDeps, run: DueWandbRun, error: Error): Promise<void> {
  const reason = error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
  log.warn({ job: run.jobId, reason }, 'a job could not be followed on wandb');
  const failures = run.failures + 1;
  const isOver = run.finishedAt !== null && Date.now() - run.finishedAt.getTime() > GIVE_UP_MS;
  const pauseSeconds = Math.min(PAUSE_SECONDS * 2 ** (failures - 1), LONGEST_PAUSE_SECONDS);
  const message = `wandb: the run in project ${run.integration.project} could not be written (${reason}); it will be retried`;
  await appendEvents(pool, run.jobId, [{ level: 'warn', message, once: `wandb:${run.position}` }]);
  await writeState(pool, { ...run, failures }, isOver ? null : pauseSeconds);
}
