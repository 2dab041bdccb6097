// Jobs that are reported to a Weights & Biases server, and how much of each has been sent. SQL only.
import type { Queryable } from './database.ts';
import type { JobStatus } from './jobs.ts';

/** Element of jobs.integrations. */
export interface WandbIntegration {
  project: string;
  name: string | null;
  entity: string | null;
  tags: string[];
}

/** Call in the transaction that creates the job. */
export async function insertWandbRuns(db: Queryable, jobId: string, count: number): Promise<void> {
  if (count === 0) return;
  await db.query(
    'insert into wandb_runs (job_id, position) select $1, position from generate_series(0, $2 - 1) as position',
    [jobId, count],
  );
}

export interface DueWandbRun {
  jobId: string;
  position: number;
  attempt: number;
  failures: number;
  entity: string | null;
  project: string | null;
  sentLines: number;
  sentStep: number;
  integration: WandbIntegration;
  status: JobStatus;
  startedAt: Date | null;
  finishedAt: Date | null;
  model: string;
  fineTunedModel: string | null;
  trainedTokens: number | null;
  hyperparameters: Record<string, unknown> | null;
  seed: number;
  metadata: Record<string, string> | null;
}

/** Leases a run that is due. If no result is written within `leaseSeconds`, it is due again. */
export async function takeDueWandbRun(db: Queryable, leaseSeconds: number): Promise<DueWandbRun | null> {
  const { rows } = await db.query<DueWandbRun>(
    `update wandb_runs as run set attempt = run.attempt + 1, next_attempt_at = now() + make_interval(secs => $1)
     from jobs
     where jobs.id = job_id and (job_id, position) = (
       select job_id, position from wandb_runs where next_attempt_at <= now()
       order by next_attempt_at limit 1 for update skip locked)
     returning job_id as "jobId", position, run.attempt, failures, entity, project, sent_lines as "sentLines",
       sent_step as "sentStep", integrations->position as integration, status, started_at as "startedAt",
       finished_at as "finishedAt", model, fine_tuned_model as "fineTunedModel", trained_tokens as "trainedTokens",
       hyperparameters, seed, metadata`,
    [leaseSeconds],
  );
  return rows[0] ?? null;
}

export interface WandbState {
  entity: string | null;
  project: string | null;
  sentLines: number;
  sentStep: number;
  failures: number;
  /** Null: nothing more is sent. */
  nextSeconds: number | null;
}

/** Does nothing when another worker has taken the run meanwhile. */
export async function writeWandbState(
  db: Queryable,
  { jobId, position, attempt }: Pick<DueWandbRun, 'jobId' | 'position' | 'attempt'>,
  state: WandbState,
): Promise<void> {
  await db.query(
    `update wandb_runs set entity = $4, project = $5, sent_lines = $6, sent_step = $7, failures = $8,
       next_attempt_at = now() + make_interval(secs => $9)
     where job_id = $1 and position = $2 and attempt = $3`,
    [
      jobId,
      position,
      attempt,
      state.entity,
      state.project,
      state.sentLines,
      state.sentStep,
      state.failures,
      state.nextSeconds,
    ],
  );
}
