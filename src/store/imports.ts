// Writes files and finished jobs that were read from another server's API, with their original ids and times. SQL only.
// Existing rows are left unchanged, so an import can be repeated.
import type pg from 'pg';
import { inTransaction, type Queryable } from './database.ts';
import type { File } from './files.ts';
import type { Job } from './jobs.ts';
import { toJsonb } from './jsonb.ts';

export type ImportedFile = Omit<File, 'status' | 'statusDetails'>;

/** The project that a file or job belongs to; null when there is none with this id. */
export async function findOwner(db: Queryable, table: 'files' | 'jobs', id: string): Promise<string | null> {
  const { rows } = await db.query<{ projectId: string }>(
    `select project_id as "projectId" from ${table} where id = $1`,
    [id],
  );
  return rows[0]?.projectId ?? null;
}

export async function importFile(db: Queryable, file: ImportedFile): Promise<void> {
  await db.query(
    `insert into files (id, project_id, purpose, filename, bytes, sha256, blob_key, status, created_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, 'processed', $8, $9) on conflict (id) do nothing`,
    [
      file.id,
      file.projectId,
      file.purpose,
      file.filename,
      file.bytes,
      file.sha256,
      file.blobKey,
      file.createdAt,
      file.expiresAt,
    ],
  );
}

export interface ImportedEvent {
  id: string;
  created_at: number;
  level: string;
  type: string;
  message: string;
  data: Record<string, unknown> | null;
}

export interface ImportedCheckpoint {
  id: string;
  created_at: number;
  step: number;
  model: string;
  metrics: Record<string, unknown>;
}

type AsOfJobs =
  | 'id'
  | 'projectId'
  | 'createdAt'
  | 'finishedAt'
  | 'model'
  | 'trainingFile'
  | 'validationFile'
  | 'suffix'
  | 'seed'
  | 'metadata'
  | 'fineTunedModel'
  | 'trainedTokens'
  | 'resultFiles'
  | 'error';

export interface ImportedJob extends Pick<Job, AsOfJobs> {
  importedFrom: string;
  status: 'succeeded' | 'failed' | 'cancelled';
  method: Record<string, unknown>;
  ownedBy: string;
  /** Oldest first. */
  events: ImportedEvent[];
  checkpoints: ImportedCheckpoint[];
}

/** Imports a job with its models, events and checkpoints in one transaction. */
export async function importJob(pool: pg.Pool, job: ImportedJob): Promise<void> {
  await inTransaction(pool, async tx => {
    const made = [job.fineTunedModel, ...job.checkpoints.map(({ model }) => model)];
    await importModels(tx, job, [job.model, ...made.filter(id => id !== null)]);
    await insertJob(tx, job);
    await insertEvents(tx, job);
    await insertCheckpoints(tx, job);
  });
}

async function importModels(tx: Queryable, job: ImportedJob, ids: string[]): Promise<void> {
  await tx.query(
    `insert into models (id, project_id, kind, architecture, job_id, owned_by, files, created_at)
     select id, $2, 'elsewhere', '', case when id <> $3 then $4 end, $5, '[]', $6 from unnest($1::text[]) as id
     on conflict (id) do nothing`,
    [[...new Set(ids)], job.projectId, job.model, job.id, job.ownedBy, job.finishedAt ?? job.createdAt],
  );
}

async function insertJob(tx: Queryable, job: ImportedJob): Promise<void> {
  await tx.query(
    `insert into jobs (id, project_id, imported_from, created_at, finished_at, status, model, training_file,
       validation_file, suffix, seed, metadata, method, fine_tuned_model, trained_tokens, result_files, error)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
    [
      job.id,
      job.projectId,
      job.importedFrom,
      job.createdAt,
      job.finishedAt,
      job.status,
      job.model,
      job.trainingFile,
      job.validationFile,
      job.suffix,
      job.seed,
      job.metadata,
      toJsonb(job.method),
      job.fineTunedModel,
      job.trainedTokens,
      job.resultFiles,
      job.error && toJsonb(job.error),
    ],
  );
}

/** The metrics of steps are also copied into job_metrics. */
async function insertEvents(tx: Queryable, { id, events }: ImportedJob): Promise<void> {
  await tx.query(
    `insert into job_events (id, job_id, created_at, level, type, message, data)
     select event.id, $1, to_timestamp(event.created_at), event.level, event.type, event.message,
       nullif(event.data, 'null')
     from rows from (jsonb_to_recordset($2::jsonb) as
         (id text, created_at float8, level text, type text, message text, data jsonb))
       with ordinality as event (id, created_at, level, type, message, data, position)
     order by position on conflict do nothing`,
    [id, toJsonb(events)],
  );
  await tx.query(
    `insert into job_metrics (job_id, step, metrics)
     select $1, (data->>'step')::int, data - 'total_steps' from job_events
     where job_id = $1 and type = 'metrics' and jsonb_typeof(data->'step') = 'number'
     on conflict do nothing`,
    [id],
  );
}

async function insertCheckpoints(tx: Queryable, { id, checkpoints }: ImportedJob): Promise<void> {
  await tx.query(
    `insert into job_checkpoints (id, job_id, step, kind, model, metrics, files, created_at)
     select id, $1, step, 'model', model, metrics, '[]', to_timestamp(created_at)
     from jsonb_to_recordset($2::jsonb) as (id text, created_at float8, step int, model text, metrics jsonb)
     on conflict do nothing`,
    [id, toJsonb(checkpoints)],
  );
}
