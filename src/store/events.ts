// The events of a job, in order. SQL only. Live streams are notified on the channel `anneal_events`.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { toJsonb } from './jsonb.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

export const EVENTS_CHANNEL = 'anneal_events';

export interface JobEvent {
  id: string;
  jobId: string;
  /** Increases with each event of a job, in the order in which they become visible to readers. */
  sequence: number;
  createdAt: Date;
  level: 'info' | 'warn' | 'error';
  type: 'message' | 'metrics';
  message: string;
  data: Record<string, unknown> | null;
}

export interface NewEvent {
  message: string;
  level?: JobEvent['level'];
  type?: JobEvent['type'];
  data?: Record<string, unknown> | null;
  /** Deduplication key: of several events of a job with the same key only the first is stored. */
  once?: string | null;
}

const columns = `id, job_id as "jobId", sequence, created_at as "createdAt", level, type, message, data`;

/**
 * Appends events in the given order. The job's row is locked first, so the events of a job become visible in the order of
 * their sequence, and a reader that continues after the last sequence it saw misses none.
 */
export async function appendEvents(db: Queryable, jobId: string, events: NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  const values = events.map(event => ({ level: 'info', type: 'message', ...event, id: newId('event') }));
  await db.query(
    `with job as materialized (select id from jobs where id = $1 for no key update),
     added as (
       insert into job_events (id, job_id, level, type, message, data, once)
       select event.id, job.id, event.level, event.type, event.message, nullif(event.data, 'null'), event.once
       from job, rows from (jsonb_to_recordset($2::jsonb) as (id text, level text, type text, message text, data jsonb, once text))
         with ordinality as event (id, level, type, message, data, once, position)
       order by position
       on conflict (job_id, once) do nothing
       returning job_id)
     select pg_notify($3, job_id) from added limit 1`,
    [jobId, toJsonb(values), EVENTS_CHANNEL],
  );
}

/** Newest first. */
export async function listEvents(db: Queryable, jobId: string, page: PageRequest): Promise<Page<JobEvent>> {
  const { rows } = await db.query<JobEvent>({
    name: 'list-events',
    text: `select ${columns} from job_events
     where job_id = $1 and sequence < ( -- as in listJobs: one plan for all pages
       select sequence from job_events where id = $2 and job_id = $1
       union all select 9223372036854775807 where $2::text is null)
     order by sequence desc
     limit $3`,
    values: [jobId, page.after ?? null, page.limit + 1],
  });
  return toPage(rows, page.limit);
}

/** Events after a sequence, oldest first: what a live stream reads. */
export async function readEventsAfter(
  db: Queryable,
  jobId: string,
  sequence: number,
  limit: number,
): Promise<JobEvent[]> {
  const { rows } = await db.query<JobEvent>(
    `select ${columns} from job_events where job_id = $1 and sequence > $2 order by sequence limit $3`,
    [jobId, sequence, limit],
  );
  return rows;
}

/** The sequence after which an interrupted stream continues; null when the job has no such event. */
export async function findEventSequence(db: Queryable, jobId: string, id: string): Promise<number | null> {
  const { rows } = await db.query<{ sequence: number }>(
    'select sequence from job_events where job_id = $1 and id = $2',
    [jobId, id],
  );
  return rows[0]?.sequence ?? null;
}
