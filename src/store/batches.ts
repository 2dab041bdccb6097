// Batches as the API uses them: create, read, list, cancel. SQL only. What a runner writes is in batch-runs.ts.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { CONTROL_CHANNEL } from './jobs.ts';
import { QUEUE_CHANNEL } from './notifications.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

/** Payload on QUEUE_CHANNEL that tells workers of a new batch, or of one to cancel. */
export const BATCHES_PAYLOAD = 'batches';

export type BatchStatus =
  | 'validating'
  | 'failed'
  | 'in_progress'
  | 'finalizing'
  | 'completed'
  | 'expired'
  | 'cancelling'
  | 'cancelled';

export const ENDED_BATCH_STATUSES: readonly BatchStatus[] = ['failed', 'completed', 'expired', 'cancelled'];

export interface BatchError {
  code: string;
  message: string;
  param: string | null;
  line: number | null;
}

export interface Batch {
  id: string;
  projectId: string;
  apiKeyId: string;
  endpoint: string;
  inputFileId: string;
  completionWindow: string;
  metadata: Record<string, string> | null;
  outputExpiresAfterSeconds: number;
  status: BatchStatus;
  model: string | null;
  errors: BatchError[] | null;
  outputFileId: string | null;
  errorFileId: string | null;
  total: number;
  completed: number;
  failed: number;
  inputTokens: number;
  outputTokens: number;
  createdAt: Date;
  inProgressAt: Date | null;
  finalizingAt: Date | null;
  completedAt: Date | null;
  failedAt: Date | null;
  expiredAt: Date | null;
  cancellingAt: Date | null;
  cancelledAt: Date | null;
  expiresAt: Date;
}

export const batchColumns = `batches.id, project_id as "projectId", api_key_id as "apiKeyId", endpoint,
  input_file_id as "inputFileId", completion_window as "completionWindow", metadata,
  output_expires_after_seconds as "outputExpiresAfterSeconds", status, model, errors, output_file_id as "outputFileId",
  error_file_id as "errorFileId", total, completed, failed, input_tokens as "inputTokens", output_tokens as "outputTokens",
  created_at as "createdAt", in_progress_at as "inProgressAt", finalizing_at as "finalizingAt",
  completed_at as "completedAt", failed_at as "failedAt", expired_at as "expiredAt", cancelling_at as "cancellingAt",
  cancelled_at as "cancelledAt", expires_at as "expiresAt"`;

export interface NewBatch
  extends Pick<
    Batch,
    | 'projectId'
    | 'apiKeyId'
    | 'endpoint'
    | 'inputFileId'
    | 'completionWindow'
    | 'metadata'
    | 'outputExpiresAfterSeconds'
  > {
  lifetimeSeconds: number;
}

/** Notifies the workers. */
export async function insertBatch(db: Queryable, batch: NewBatch): Promise<Batch> {
  const { rows } = await db.query<Batch>(
    `insert into batches (id, project_id, api_key_id, endpoint, input_file_id, completion_window, metadata,
       output_expires_after_seconds, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9))
     returning ${batchColumns}, pg_notify($10, $11)`,
    [
      newId('batch'),
      batch.projectId,
      batch.apiKeyId,
      batch.endpoint,
      batch.inputFileId,
      batch.completionWindow,
      batch.metadata,
      batch.outputExpiresAfterSeconds,
      batch.lifetimeSeconds,
      QUEUE_CHANNEL,
      BATCHES_PAYLOAD,
    ],
  );
  return rows[0]!;
}

export async function findBatch(db: Queryable, projectId: string, id: string): Promise<Batch | null> {
  const { rows } = await db.query<Batch>(
    `select ${batchColumns} from batches where id = $1 and project_id = $2`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

/** Newest first. */
export async function listBatches(db: Queryable, projectId: string, page: PageRequest): Promise<Page<Batch>> {
  const { rows } = await db.query<Batch>(
    `select ${batchColumns} from batches
     where project_id = $1
       and ($2::text is null
         or (created_at, id) < (select created_at, id from batches where id = $2 and project_id = $1))
     order by created_at desc, id desc
     limit $3`,
    [projectId, page.after ?? null, page.limit + 1],
  );
  return toPage(rows, page.limit);
}

/** SQL: whether a runner may take the batch. One that waits for a rate limit may be taken only to end it (expired or cancelled). */
export const takeable = `status in ('validating', 'in_progress', 'finalizing', 'cancelling')
  and (lease_until is null or lease_until < now())
  and (waits_until is null or waits_until < now() or expires_at < now() or status = 'cancelling')`;

/** Whether any batch could be taken by a runner. */
export async function hasWaitingBatch(db: Queryable): Promise<boolean> {
  const { rowCount } = await db.query(`select 1 from batches where ${takeable} limit 1`);
  return rowCount === 1;
}

export const CANCELLABLE: readonly BatchStatus[] = ['validating', 'in_progress', 'finalizing'];

/** Null when the project has no such batch or its status does not allow it. Notifies its runner and idle workers. */
export async function cancelBatch(db: Queryable, projectId: string, id: string): Promise<Batch | null> {
  const { rows } = await db.query<Batch>(
    `update batches set status = 'cancelling', cancelling_at = now()
     where id = $1 and project_id = $2 and status = any($3)
     returning ${batchColumns}, pg_notify($4, $5), pg_notify($6, id)`,
    [id, projectId, CANCELLABLE, QUEUE_CHANNEL, BATCHES_PAYLOAD, CONTROL_CHANNEL],
  );
  return rows[0] ?? null;
}
