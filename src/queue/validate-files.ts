// Validates the files of a new job: writes an event for each bad line and makes the first one the job's error. The rules are in
// src/data/validate.ts.
import type pg from 'pg';
import { BlobNotFound, type Blobs } from '../blobs/blobs.ts';
import {
  toJobError,
  type ValidationOptions,
  type ValidationReport,
  validateTrainingFile,
} from '../data/validate.ts';
import type { Logger } from '../log.ts';
import { appendEvents, type NewEvent } from '../store/events.ts';
import { type JobError, settingsOf } from '../store/jobs.ts';
import { endLease, fenced, JobEnded, type Lease, LeaseLost, releaseLease } from '../store/leases.ts';
import type { Notifications } from '../store/notifications.ts';
import { findInputFile, type Run, readRun, writeFailure } from '../store/runs.ts';
import { InputMissing } from './inputs.ts';
import { keepLease } from './lease-keeper.ts';
import type { Queue } from './queue.ts';
import { untilItWorks } from './retry.ts';
import * as say from './run-events.ts';

export interface ValidateDeps {
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
  readonly control: Notifications;
}

const INTERNAL_ERROR = {
  code: 'server_error',
  message: 'The job failed due to an internal error',
  param: null,
};

/** Never throws. */
export async function validateFiles(deps: ValidateDeps, lease: Lease<'jobs'>): Promise<void> {
  const log = deps.log.child({ job: lease.id, attempt: lease.attempt });
  const keeper = keepLease({ ...deps, log }, lease);
  try {
    await validate({ ...deps, log }, lease, keeper.signal);
  } catch (error) {
    const reason = keeper.signal.aborted ? keeper.signal.reason : error;
    if (reason instanceof LeaseLost || reason instanceof JobEnded) log.info(reason.message);
    else await giveUp({ ...deps, log }, lease, reason);
  } finally {
    keeper.close();
    await endLease(deps.pool, lease.id).catch(() => undefined); // it runs out by itself
  }
}

/** After an unexpected error, or too long an outage. */
async function giveUp({ pool, log }: ValidateDeps, lease: Lease<'jobs'>, cause: unknown): Promise<void> {
  log.error({ error: cause }, 'a validation broke off');
  const failed = fenced(pool, lease, async tx => {
    await writeFailure(tx, lease.id, INTERNAL_ERROR);
    await appendEvents(tx, lease.id, [say.failed(INTERNAL_ERROR.message)]);
  });
  await failed.catch(error => log.error({ error }, 'its end was not written; its lease will run out'));
}

async function validate(deps: ValidateDeps, lease: Lease<'jobs'>, signal: AbortSignal): Promise<void> {
  const { pool, log, queue } = deps;
  const retry = { log, signal };
  const job = await untilItWorks(() => readRun(pool, lease.id), { what: 'reading the job', ...retry });
  const begin = say.validating(job.trainingFile, job.validationFile);
  await untilItWorks(() => fenced(pool, lease, tx => appendEvents(tx, job.id, [begin])), {
    what: 'writing the start',
    ...retry,
  });
  const { error, events } = await readFiles(deps, job, signal);
  await untilItWorks(
    () =>
      fenced(pool, lease, async tx => {
        await appendEvents(tx, job.id, events);
        if (error) {
          await writeFailure(tx, job.id, error);
        } else {
          await releaseLease(tx, lease, 'queued');
          await queue.enqueueTraining(job.id, { client: tx });
        }
      }),
    { what: 'writing the end', ...retry },
  );
  log.info({ error: error?.code }, 'the files were validated');
}

interface Findings {
  error: JobError | null;
  events: NewEvent[];
}

/** Reads both files to their ends, so that all errors are reported at once. */
async function readFiles(deps: ValidateDeps, job: Run, signal: AbortSignal): Promise<Findings> {
  const files = [
    { kind: 'training', param: 'training_file', id: job.trainingFile },
    { kind: 'validation', param: 'validation_file', id: job.validationFile },
  ] as const;
  const events: NewEvent[] = [];
  let error: JobError | null = null;
  let training: ValidationReport | null = null;
  for (const { kind, param, id } of files) {
    if (!id) continue;
    const options = { kind, method: job.method.type, settings: settingsOf(job.method), training, signal };
    const report = await readFile(deps, { param, id }, options);
    if (report instanceof InputMissing) {
      error ??= report.jobError;
      continue;
    }
    training ??= report;
    error ??= toJobError(report, id, param);
    events.push(...report.errors.map(found => lineEvent(id, param, found)));
  }
  events.push(error ? say.failed(error.message) : say.validated);
  return { error, events };
}

function lineEvent(
  file: string,
  param: string,
  { line, path, message }: ValidationReport['errors'][number],
): NewEvent {
  return {
    level: 'error',
    message: `${file}: ${message}`,
    data: { file, param, line, path },
    once: `line:${param}:${line}:${path}:${message}`.slice(0, 200),
  };
}

/** Starts again when reading from the store fails midway. */
async function readFile(
  { pool, blobs, log }: ValidateDeps,
  { param, id }: { param: 'training_file' | 'validation_file'; id: string },
  options: ValidationOptions & { signal: AbortSignal },
): Promise<ValidationReport | InputMissing> {
  return untilItWorks(
    async () => {
      const row = await findInputFile(pool, id);
      if (!row) return new InputMissing(param, id);
      try {
        return await validateTrainingFile(await blobs.get(row.blobKey), options);
      } catch (error) {
        if (error instanceof BlobNotFound) return new InputMissing(param, id);
        throw error;
      }
    },
    { what: `reading ${id}`, log, signal: options.signal },
  );
}
