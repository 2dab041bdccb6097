// Counts of jobs by status and of waiting jobs, for monitoring. SQL only.
import type { Queryable } from './database.ts';
import type { JobStatus } from './jobs.ts';

export interface JobCounts {
  byStatus: { status: JobStatus; jobs: number }[];
  /** Jobs without a runner, waiting for validation or training. */
  waiting: number;
  /** 0 when none waits. */
  oldestWaitingSeconds: number;
}

export async function countJobs(db: Queryable): Promise<JobCounts> {
  const { rows: byStatus } = await db.query<JobCounts['byStatus'][number]>(
    'select status, count(*) as jobs from jobs group by status',
  );
  const { rows } = await db.query<Omit<JobCounts, 'byStatus'>>(
    `select count(*) as waiting, coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "oldestWaitingSeconds"
     from jobs where status in ('validating_files', 'queued') and lease_until is null`,
  );
  return { byStatus, ...rows[0]! };
}
