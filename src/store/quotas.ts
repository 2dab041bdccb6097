// Quotas of projects: active jobs and stored bytes. SQL only; routes/quotas.ts enforces them.
import type { Queryable } from './database.ts';

/** Null: unlimited. */
export interface Quotas {
  maxActiveJobs: number | null;
  maxStoredBytes: number | null;
}

export interface QuotaUse {
  activeJobs: number;
  storedBytes: number;
}

const columns = 'max_active_jobs as "maxActiveJobs", max_stored_bytes as "maxStoredBytes"';

export async function readQuotas(db: Queryable, projectId: string): Promise<Quotas> {
  const { rows } = await db.query<Quotas>(`select ${columns} from projects where id = $1`, [projectId]);
  return rows[0]!;
}

/** Locks the project's row until the transaction ends, so that what is counted next stays valid. Null where the project has no quotas. */
export async function lockQuotas(db: Queryable, projectId: string): Promise<Quotas | null> {
  const { rows } = await db.query<Quotas>(
    `select ${columns} from projects
     where id = $1 and (max_active_jobs is not null or max_stored_bytes is not null) for no key update`,
    [projectId],
  );
  return rows[0] ?? null;
}

export async function writeQuotas(db: Queryable, projectId: string, quotas: Quotas): Promise<void> {
  await db.query('update projects set max_active_jobs = $2, max_stored_bytes = $3 where id = $1', [
    projectId,
    quotas.maxActiveJobs,
    quotas.maxStoredBytes,
  ]);
}

/**
 * Bytes of files, of pending uploads (their announced size), and of models and checkpoints; an object that several models share
 * counts once. What a job stores for resuming is not counted.
 */
export async function readQuotaUse(db: Queryable, projectId: string): Promise<QuotaUse> {
  const { rows } = await db.query<QuotaUse>(
    `select
       (select count(*) from jobs
        where project_id = $1 and status in ('validating_files', 'queued', 'running', 'paused')) as "activeJobs",
       ((select coalesce(sum(bytes), 0) from files where project_id = $1 and deleted_at is null)
        + (select coalesce(sum(bytes), 0) from uploads
           where project_id = $1 and status = 'pending' and expires_at > now())
        + (select coalesce(sum(bytes), 0) from (
             select distinct on (file->>'key') (file->>'bytes')::bigint as bytes
             from models, jsonb_array_elements(files) as file
             where project_id = $1 and deleted_at is null) as objects))::bigint as "storedBytes"`,
    [projectId],
  );
  return rows[0]!;
}
