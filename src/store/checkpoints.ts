// The checkpoints of a job that are served as models. SQL only; the runner writes them (runs.ts).
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

export interface Checkpoint {
  id: string;
  jobId: string;
  step: number;
  model: string;
  metrics: Record<string, number>;
  createdAt: Date;
}

const columns = `id, job_id as "jobId", step, model, metrics, created_at as "createdAt"`;

/** Newest first, without those that are only for resuming. */
export async function listCheckpoints(
  db: Queryable,
  jobId: string,
  page: PageRequest,
): Promise<Page<Checkpoint>> {
  const { rows } = await db.query<Checkpoint>(
    `select ${columns} from job_checkpoints
     where job_id = $1 and kind = 'model' and model is not null
       and ($2::text is null or step < (select step from job_checkpoints where id = $2 and job_id = $1))
     order by step desc
     limit $3`,
    [jobId, page.after ?? null, page.limit + 1],
  );
  return toPage(rows, page.limit);
}
