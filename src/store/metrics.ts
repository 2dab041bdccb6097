// Reads the metrics of a job's steps for the API. SQL only; runs.ts writes them.
import type { Queryable } from './database.ts';
import { type Page, toPage } from './pages.ts';

export interface StepRow {
  step: number;
  metrics: Record<string, number>;
}

export interface StepPageRequest {
  limit: number;
  /** Last step of the previous page. */
  after: number | null;
  order: 'asc' | 'desc';
}

export async function listSteps(
  db: Queryable,
  jobId: string,
  { limit, after, order }: StepPageRequest,
): Promise<Page<StepRow>> {
  const { rows } = await db.query<StepRow>(
    `select step, metrics from job_metrics
     where job_id = $1 and ($2::int is null or step ${order === 'asc' ? '>' : '<'} $2)
     order by step ${order} limit $3`,
    [jobId, after, limit + 1],
  );
  return toPage(rows, limit);
}
