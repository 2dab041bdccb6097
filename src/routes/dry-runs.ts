// Handles `POST /v1/fine_tuning/jobs?dry_run=true`. A child process does the work, so that the api stays responsive.
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { pricesOf, trainingItem } from '../metering/prices.ts';
import { runDryRun } from '../queue/dry-run.ts';
import { InputMissing } from '../queue/inputs.ts';
import { dryRunToWire, type RunnerEstimate } from '../schemas/dry-runs.ts';
import type { NewJob } from '../store/jobs.ts';
import { findRunSpeed, listRunners, type Runner } from '../store/runners.ts';
import { findRootModel } from '../store/runs.ts';
import type { DryRun } from '../training/dry-run.ts';
import { asEnded } from './generation.ts';

/** Concurrent dry runs; each is a process that reads whole files. */
const AT_ONCE = 2;
const RETRY_AFTER_SECONDS = 5;

/** Returns the handler of an api process, which limits its concurrent dry runs. `signal` cancels a dry run. */
export function dryRunner(deps: Deps) {
  let running = 0;
  return async (job: NewJob, signal: AbortSignal) => {
    if (running >= AT_ONCE) {
      const message = `${AT_ONCE} dry runs are under way already; try again in a moment.`;
      throw new ApiError('server_is_overloaded', message, { retryAfterSeconds: RETRY_AFTER_SECONDS });
    }
    running += 1;
    try {
      const runners = await listRunners(deps.pool);
      const report = await run(deps, job, runners, signal);
      const estimates = await Promise.all(runners.map(runner => estimateOn(deps, job, runner, report)));
      return dryRunToWire({ job, report, estimates, estimatedCost: estimateCost(deps, job, report) });
    } finally {
      running -= 1;
    }
  };
}

async function run(deps: Deps, job: NewJob, runners: Runner[], signal: AbortSignal): Promise<DryRun> {
  const machines = runners.map(({ id, device, freeBytes, memoryBudgetBytes: budgetBytes }) => {
    return { id, device, freeBytes, budgetBytes };
  });
  try {
    const answer = await runDryRun(deps, job, { machines, signal });
    if (answer.type === 'done') return answer.report;
    throw new ApiError('unsupported_value', answer.message, { param: 'model' });
  } catch (cause) {
    if (!(cause instanceof InputMissing)) throw asEnded(cause, signal);
    throw new ApiError('not_found', cause.message, { param: cause.jobError.param, cause });
  }
}

function estimateCost({ config }: Deps, { model }: NewJob, { trainedTokens }: DryRun) {
  if (trainedTokens === null || pricesOf(config.prices, model).training === undefined) return null;
  const { cost: value } = trainingItem(config.prices, { model, trainedTokens });
  return { value, currency: config.currency };
}

/** Seconds by the speed of earlier runs of this kind, else by that of matrix products, which is a lower bound. */
async function estimateOn(
  { pool }: Deps,
  job: NewJob,
  runner: Runner,
  { hyperparameters, estimates }: DryRun,
): Promise<RunnerEstimate> {
  const estimate = estimates.find(({ machine }) => machine === runner.id) ?? null;
  const none = { runner, estimate, seconds: null, secondsFrom: null };
  if (!estimate || 'failure' in estimate || estimate.flops === null) return none;
  const { adapter, quantization } = hyperparameters!;
  const model = await findRootModel(pool, job.model);
  const known = await findRunSpeed(pool, { ...runner, model, adapter, quantization });
  const speed = known ?? runner.flopsPerSecond;
  if (speed === null) return none;
  const secondsFrom = known === null ? 'matrix_products' : 'earlier_runs';
  return { runner, estimate, seconds: estimate.flops / speed, secondsFrom };
}
