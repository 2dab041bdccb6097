// What a training run reads and writes: metrics, checkpoints, the result. SQL only. All writes are made inside `fenced`
// (leases.ts), which locks the job's row and checks the lease.
import { newId } from '../ids.ts';
import type { StepMetrics, TrainerEvent } from '../training/protocol.ts';
import type { Queryable } from './database.ts';
import { type JobError, type JobMethod, TERMINAL_STATUSES } from './jobs.ts';
import { toJsonb } from './jsonb.ts';
import type { StoredFile } from './models.ts';
import { announce, type WebhookEventType } from './webhook-deliveries.ts';

export type Prepared = Extract<TrainerEvent, { type: 'prepared' }>;
export type Step = Extract<TrainerEvent, { type: 'step' }>;

export interface Run {
  id: string;
  projectId: string;
  apiKeyId: string | null;
  organizationId: string;
  model: string;
  trainingFile: string;
  validationFile: string | null;
  suffix: string | null;
  seed: number;
  method: JobMethod;
  /** Both from an earlier attempt. */
  hyperparameters: Prepared['hyperparameters'] | null;
  layout: Prepared['layout'] | null;
}

export async function readRun(db: Queryable, jobId: string): Promise<Run> {
  const { rows } = await db.query<Run>(
    `select jobs.id, jobs.project_id as "projectId", jobs.api_key_id as "apiKeyId",
       projects.organization_id as "organizationId", jobs.model, jobs.training_file as "trainingFile", jobs.validation_file as "validationFile", jobs.suffix, jobs.seed,
       jobs.method, jobs.hyperparameters, jobs.layout
     from jobs join projects on projects.id = jobs.project_id where jobs.id = $1`,
    [jobId],
  );
  return rows[0]!;
}

export interface InputFile {
  id: string;
  bytes: number;
  sha256: string;
  blobKey: string;
}

/** Finds deleted files too: a job keeps its files until it ends. Null once the row is removed. */
export async function findInputFile(db: Queryable, id: string): Promise<InputFile | null> {
  const { rows } = await db.query<InputFile>(
    `select id, bytes, sha256, blob_key as "blobKey" from files where id = $1`,
    [id],
  );
  return rows[0] ?? null;
}

/** The base model at the root of a chain of fine-tuned ones. Their names contain its name. */
export async function findRootModel(db: Queryable, modelId: string): Promise<string> {
  const { rows } = await db.query<{ id: string }>(
    `with recursive chain as (
       select id, base_model from models where id = $1
       union all select models.id, models.base_model from models join chain on models.id = chain.base_model)
     select id from chain where base_model is null`,
    [modelId],
  );
  return rows[0]!.id;
}

/** Stores the resolved hyperparameters, the number of steps and the layout of the run. */
export async function writePrepared(db: Queryable, jobId: string, prepared: Prepared): Promise<void> {
  await db.query('update jobs set hyperparameters = $2, total_steps = $3, layout = $4 where id = $1', [
    jobId,
    prepared.hyperparameters,
    prepared.totalSteps,
    prepared.layout,
  ]);
}

/** Keeps the rows of steps that an earlier attempt has written. Returns the steps whose metrics differ from those; there should be none. */
export async function writeSteps(db: Queryable, jobId: string, steps: Step[]): Promise<number[]> {
  const last = steps.at(-1)!;
  await db.query(
    `update jobs set trained_tokens = greatest(trained_tokens, $2), total_steps = $3,
       estimated_finish = case when status = 'running' then now() + make_interval(secs => $4) end
     where id = $1`,
    [jobId, last.trainedTokens, last.totalSteps, last.remainingSeconds],
  );
  const { rows } = await db.query<{ step: number; differs: boolean }>(
    `insert into job_metrics (job_id, step, metrics)
     select $1, (metrics->>'step')::int, metrics from jsonb_array_elements($2::jsonb) as metrics
     on conflict (job_id, step) do update set metrics = job_metrics.metrics
       where job_metrics.metrics - 'seconds' <> excluded.metrics - 'seconds'
     returning step, xmax <> 0 as differs`,
    [jobId, JSON.stringify(steps.map(metricsOf))],
  );
  return rows.filter(row => row.differs).map(row => row.step);
}

function metricsOf(step: Step): Record<string, number> {
  return {
    ...step.metrics,
    epoch: step.epoch,
    learning_rate: step.learningRate,
    gradient_norm: step.gradientNorm,
    seconds: step.seconds,
  };
}

export async function readMetrics(db: Queryable, jobId: string): Promise<StepMetrics[]> {
  const { rows } = await db.query<{ metrics: StepMetrics }>(
    'select metrics from job_metrics where job_id = $1 order by step',
    [jobId],
  );
  return rows.map(row => row.metrics);
}

// ---- checkpoints

export interface NewCheckpoint {
  kind: 'resume' | 'model';
  step: number;
  /** Name under which it is served; null if it is only for resuming. */
  model: string | null;
  metrics: StepMetrics;
  files: StoredFile[];
}

export interface ResumePoint {
  step: number;
  files: StoredFile[];
}

export async function findResumePoint(db: Queryable, jobId: string): Promise<ResumePoint | null> {
  const { rows } = await db.query<ResumePoint>(
    `select step, files from job_checkpoints where job_id = $1 and kind = 'resume' order by step desc limit 1`,
    [jobId],
  );
  return rows[0] ?? null;
}

export async function findCheckpointFiles(
  db: Queryable,
  jobId: string,
  kind: 'resume' | 'model',
  step: number,
): Promise<StoredFile[] | null> {
  const { rows } = await db.query<{ files: StoredFile[] }>(
    'select files from job_checkpoints where job_id = $1 and kind = $2 and step = $3',
    [jobId, kind, step],
  );
  return rows[0]?.files ?? null;
}

/** Also resets the failure counters, since a checkpoint is progress. False when the checkpoint already exists. */
export async function insertCheckpoint(
  db: Queryable,
  jobId: string,
  checkpoint: NewCheckpoint,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into job_checkpoints (id, job_id, step, kind, model, metrics, files)
     values ($1, $2, $3, $4, $5, $6, $7) on conflict (job_id, kind, step) do nothing`,
    [
      newId('checkpoint'),
      jobId,
      checkpoint.step,
      checkpoint.kind,
      checkpoint.model,
      checkpoint.metrics,
      JSON.stringify(checkpoint.files),
    ],
  );
  await db.query('update jobs set crashes = 0, lost_leases = 0 where id = $1', [jobId]);
  return rowCount === 1;
}

/** Deletes all resume checkpoints but the last. */
export async function dropOldResumePoints(db: Queryable, jobId: string): Promise<void> {
  await db.query(
    `delete from job_checkpoints where job_id = $1 and kind = 'resume'
       and step < (select max(step) from job_checkpoints where job_id = $1 and kind = 'resume')`,
    [jobId],
  );
}

/**
 * The last `keep` stay models. Of the others one is kept without a name while it may still become the result: the best, which has
 * the lowest loss on the validation file or, where answers are graded, the highest reward.
 */
export async function dropOldModels(db: Queryable, jobId: string, keep: number): Promise<void> {
  await db.query(
    `with measured as (
       select id, model, step,
         coalesce((metrics->>'full_valid_loss')::float8, -(metrics->>'full_valid_reward_mean')::float8) as loss
       from job_checkpoints where job_id = $1 and kind = 'model'),
     old as (select id, model, loss from measured order by step desc offset $2),
     best as (select min(loss) as loss from measured),
     unnamed as (
       update models set deleted_at = now() where id in (select model from old) and deleted_at is null),
     demoted as (
       update job_checkpoints set model = null
       where id in (select old.id from old, best where old.loss = best.loss))
     delete from job_checkpoints where id in (
       select old.id from old, best where old.loss is null or old.loss <> best.loss)`,
    [jobId, keep],
  );
}

/** Of a job that has ended: deletes resume checkpoints and the best one that was kept without a name. */
export async function dropUnservedCheckpoints(db: Queryable, jobId: string): Promise<void> {
  await db.query(
    `delete from job_checkpoints using jobs
     where jobs.id = job_id and job_id = $1 and status = any($2) and (kind = 'resume' or job_checkpoints.model is null)`,
    [jobId, TERMINAL_STATUSES],
  );
}

/** Ended jobs that were not cleaned up: cancelled while no runner had them, or ended by a runner that then died. */
export async function findUncleanJobs(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id from jobs where status in ('succeeded', 'failed', 'cancelled') and lease_until < now()
     union select jobs.id from job_checkpoints join jobs on jobs.id = job_id
       where (kind = 'resume' or job_checkpoints.model is null)
         and status in ('succeeded', 'failed', 'cancelled') and lease_until is null`,
  );
  return rows.map(row => row.id);
}

/** Keys of the job's objects that rows still refer to. */
export async function findUsedKeys(db: Queryable, jobId: string): Promise<Set<string>> {
  const { rows } = await db.query<{ key: string }>(
    `select file->>'key' as key from job_checkpoints, jsonb_array_elements(files) as file where job_id = $1
     union select file->>'key' from models, jsonb_array_elements(files) as file
       where job_id = $1 and deleted_at is null
     union select blob_key from files where id = any((select result_files from jobs where id = $1)::text[])`,
    [jobId],
  );
  return new Set(rows.map(row => row.key));
}

// ---- ends

export interface Result {
  fineTunedModel: string;
  trainedTokens: number;
  manifest: Record<string, unknown>;
  resultFiles: string[];
}

export async function writeSuccess(db: Queryable, jobId: string, result: Result): Promise<void> {
  await db.query(
    `update jobs set status = 'succeeded', fine_tuned_model = $2, trained_tokens = $3, manifest = $4,
       result_files = $5, finished_at = now(), estimated_finish = null, error = null
     where id = $1`,
    [jobId, result.fineTunedModel, result.trainedTokens, toJsonb(result.manifest), result.resultFiles],
  );
  await announceEnd(db, jobId, 'fine_tuning.job.succeeded');
}

export async function writeFailure(db: Queryable, jobId: string, error: JobError): Promise<void> {
  await db.query(
    `update jobs set status = 'failed', error = $2, finished_at = now(), estimated_finish = null
     where id = $1`,
    [jobId, toJsonb(error)],
  );
  await announceEnd(db, jobId, 'fine_tuning.job.failed');
}

async function announceEnd(db: Queryable, jobId: string, type: WebhookEventType): Promise<void> {
  const { rows } = await db.query<{ projectId: string }>(
    'select project_id as "projectId" from jobs where id = $1',
    [jobId],
  );
  await announce(db, { projectId: rows[0]!.projectId, type, id: jobId });
}

/** Returns the number of trainer crashes since the last checkpoint. */
export async function countCrash(db: Queryable, jobId: string): Promise<number> {
  const { rows } = await db.query<{ crashes: number }>(
    'update jobs set crashes = crashes + 1 where id = $1 returning crashes',
    [jobId],
  );
  return rows[0]!.crashes;
}
