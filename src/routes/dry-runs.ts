// Answers `POST /v1/fine_tuning/jobs?dry_run=true`. The work is a child process', so that the api goes on answering.
import type { FastifyRequest } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { pricesOf, trainingItem } from '../metering/prices.ts';
import { runDryRun } from '../queue/dry-run.ts';
import { InputMissing } from '../queue/inputs.ts';
import { dryRunToWire } from '../schemas/dry-runs.ts';
import { findMeasuredSpeed, type NewJob } from '../store/jobs.ts';
import type { DryRun } from '../training/dry-run.ts';

/** Each is a process that reads whole files. */
const AT_ONCE = 2;
const RETRY_AFTER_SECONDS = 5;

/** For one api: it counts what runs. A client that goes away, and the end of the service, end a dry run. */
export function dryRunner(deps: Deps, closing: AbortSignal) {
  let running = 0;
  return async (request: FastifyRequest, job: NewJob) => {
    if (running >= AT_ONCE) {
      const message = `${AT_ONCE} dry runs are under way already; try again in a moment.`;
      throw new ApiError('server_is_overloaded', message, { retryAfterSeconds: RETRY_AFTER_SECONDS });
    }
    const gone = new AbortController();
    const onClose = () => gone.abort(new ApiError('client_closed_request', 'The client went away.'));
    request.raw.socket.once('close', onClose);
    running += 1;
    try {
      const report = await run(deps, job, AbortSignal.any([gone.signal, closing]));
      const estimatedSeconds = await estimateSeconds(deps, job, report);
      return dryRunToWire({ job, report, estimatedSeconds, estimatedCost: estimateCost(deps, job, report) });
    } finally {
      running -= 1;
      request.raw.socket.off('close', onClose);
    }
  };
}

async function run(deps: Deps, job: NewJob, signal: AbortSignal): Promise<DryRun> {
  try {
    const answer = await runDryRun(deps, job, signal);
    if (answer.type === 'done') return answer.report;
    throw new ApiError('unsupported_value', answer.message, { param: 'model' });
  } catch (cause) {
    if (!(cause instanceof InputMissing)) throw cause;
    throw new ApiError('not_found', cause.message, { param: cause.jobError.param, cause });
  }
}

function estimateCost({ config }: Deps, { model }: NewJob, { trainedTokens }: DryRun) {
  if (trainedTokens === null || pricesOf(config.prices, model).training === undefined) return null;
  const { cost: value } = trainingItem(config.prices, { model, trainedTokens });
  return { value, currency: config.currency };
}

async function estimateSeconds(deps: Deps, job: NewJob, report: DryRun): Promise<number | null> {
  if (report.hyperparameters === null || report.trainedTokens === null) return null;
  const { adapter } = report.hyperparameters;
  const speed = await findMeasuredSpeed(deps.pool, { ...job, adapter });
  return speed === null ? null : Math.round(speed * report.trainedTokens);
}
