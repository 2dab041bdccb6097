// What the runner of a batch writes. SQL only. Whoever runs it holds a lease on its row, and every write names the attempt: a
// runner that lost its lease can change nothing.

import type pg from 'pg';
import { type Batch, type BatchError, type BatchStatus, batchColumns } from './batches.ts';
import { inTransaction, type Queryable } from './database.ts';
import { announce } from './webhook-deliveries.ts';

export interface BatchLease {
  readonly batchId: string;
  /** Fencing token: grows each time that somebody takes the batch. */
  readonly attempt: number;
}

/** Somebody else has the batch. */
export class BatchLost extends Error {
  constructor({ batchId, attempt }: BatchLease) {
    super(`attempt ${attempt} at ${batchId} no longer holds its lease`);
  }
}

const ACTIVE = `('validating', 'in_progress', 'finalizing', 'cancelling')`;

/** The batch that waits longest for its turn; null when none waits. */
export async function takeBatch(
  db: Queryable,
  runner: { id: string; leaseSeconds: number },
): Promise<BatchLease | null> {
  const { rows } = await db.query<BatchLease>(
    `update batches set attempt = attempt + 1, runner_id = $1, lease_until = now() + make_interval(secs => $2),
       taken_at = now()
     where id = (
       select id from batches
       where status in ${ACTIVE} and (lease_until is null or lease_until < now())
       order by taken_at nulls first, created_at limit 1 for update skip locked)
     returning id as "batchId", attempt`,
    [runner.id, runner.leaseSeconds],
  );
  return rows[0] ?? null;
}

/** Returns the batch's status, which may have changed; null when the lease was lost. */
export async function extendBatchLease(
  db: Queryable,
  { batchId, attempt }: BatchLease,
  leaseSeconds: number,
): Promise<BatchStatus | null> {
  const { rows } = await db.query<{ status: BatchStatus }>(
    `update batches set lease_until = now() + make_interval(secs => $3) where id = $1 and attempt = $2 returning status`,
    [batchId, attempt, leaseSeconds],
  );
  return rows[0]?.status ?? null;
}

export async function releaseBatch(db: Queryable, { batchId, attempt }: BatchLease): Promise<void> {
  await db.query('update batches set runner_id = null, lease_until = null where id = $1 and attempt = $2', [
    batchId,
    attempt,
  ]);
}

/** Throws BatchLost. */
export async function readLeasedBatch(db: Queryable, lease: BatchLease): Promise<Batch> {
  const { rows } = await db.query<Batch>(
    `select ${batchColumns} from batches where id = $1 and attempt = $2`,
    [lease.batchId, lease.attempt],
  );
  if (!rows[0]) throw new BatchLost(lease);
  return rows[0];
}

// ---- validating

export interface BatchRequest {
  line: number;
  id: string;
  customId: string;
}

/** The file is right: its requests are there at once. Nothing when the batch is being cancelled. */
export async function beginBatch(
  pool: pg.Pool,
  lease: BatchLease,
  { model, requests }: { model: string | null; requests: BatchRequest[] },
): Promise<void> {
  await inTransaction(pool, async tx => {
    const { rowCount } = await tx.query(
      `update batches set status = 'in_progress', in_progress_at = now(), model = $3, total = $4
       where id = $1 and attempt = $2 and status = 'validating'`,
      [lease.batchId, lease.attempt, model, requests.length],
    );
    if (rowCount === 0) return;
    await tx.query(
      `insert into batch_requests (batch_id, line, id, custom_id)
       select $1, line, id, custom_id from unnest($2::int[], $3::text[], $4::text[]) as request (line, id, custom_id)`,
      [
        lease.batchId,
        requests.map(({ line }) => line),
        requests.map(({ id }) => id),
        requests.map(({ customId }) => customId),
      ],
    );
  });
}

/** Nothing when the batch is being cancelled. */
export async function failBatch(pool: pg.Pool, lease: BatchLease, errors: BatchError[]): Promise<void> {
  await inTransaction(pool, async tx => {
    const { rows } = await tx.query<{ projectId: string }>(
      `update batches set status = 'failed', failed_at = now(), errors = $3, lease_until = null, runner_id = null
       where id = $1 and attempt = $2 and status = 'validating' returning project_id as "projectId"`,
      [lease.batchId, lease.attempt, JSON.stringify(errors)],
    );
    const projectId = rows[0]?.projectId;
    if (projectId) await announce(tx, { projectId, type: 'batch.failed', id: lease.batchId });
  });
}

// ---- answering

export async function readAnsweredLines(db: Queryable, batchId: string): Promise<Set<number>> {
  const { rows } = await db.query<{ line: number }>(
    'select line from batch_requests where batch_id = $1 and response is not null',
    [batchId],
  );
  return new Set(rows.map(row => row.line));
}

export interface LineAnswer {
  line: number;
  response: { status_code: number; request_id: string; body: unknown };
  inputTokens: number;
  outputTokens: number;
}

/** False when the lease was lost or the batch is no longer to be answered: then nothing is written. */
export async function writeLineAnswer(
  db: Queryable,
  lease: BatchLease,
  answer: LineAnswer,
): Promise<boolean> {
  const isSuccess = answer.response.status_code < 300;
  const { rowCount } = await db.query(
    `with held as (
       select id from batches where id = $1 and attempt = $2 and status = 'in_progress' for no key update),
     written as (
       update batch_requests set response = $4 from held
       where batch_id = held.id and line = $3 and response is null returning 1)
     update batches set completed = completed + $5, failed = failed + 1 - $5, input_tokens = input_tokens + $6,
       output_tokens = output_tokens + $7
     where id = (select id from held) and exists (select 1 from written)`,
    [
      lease.batchId,
      lease.attempt,
      answer.line,
      JSON.stringify(answer.response),
      isSuccess ? 1 : 0,
      answer.inputTokens,
      answer.outputTokens,
    ],
  );
  return rowCount === 1;
}

// ---- the end

/** From here on nothing is answered. */
export async function finalizeBatch(db: Queryable, { batchId, attempt }: BatchLease): Promise<void> {
  await db.query(
    `update batches set status = 'finalizing', finalizing_at = coalesce(finalizing_at, now())
     where id = $1 and attempt = $2 and status = 'in_progress'`,
    [batchId, attempt],
  );
}

export interface StoredRequest extends BatchRequest {
  response: LineAnswer['response'] | null;
}

const PAGE = 200;

/** In the order of the file, a page in memory at a time. */
export async function* readRequests(db: Queryable, batchId: string): AsyncGenerator<StoredRequest> {
  for (let last = 0; ; ) {
    const { rows } = await db.query<StoredRequest>(
      `select line, id, custom_id as "customId", response from batch_requests
       where batch_id = $1 and line > $2 order by line limit ${PAGE}`,
      [batchId, last],
    );
    yield* rows;
    if (rows.length < PAGE) return;
    last = rows.at(-1)!.line;
  }
}

export type BatchEnd = 'completed' | 'expired' | 'cancelled';

/** In a transaction with the files that it names. Throws BatchLost. `unanswered` count as failed. */
export async function endBatch(
  tx: Queryable,
  lease: BatchLease,
  end: { status: BatchEnd; outputFileId: string | null; errorFileId: string | null; unanswered: number },
): Promise<void> {
  const { rows } = await tx.query<{ projectId: string }>(
    `update batches set status = $3, ${end.status}_at = now(), output_file_id = $4, error_file_id = $5,
       failed = failed + $6, lease_until = null, runner_id = null
     where id = $1 and attempt = $2 and status in ('finalizing', 'cancelling')
     returning project_id as "projectId"`,
    [lease.batchId, lease.attempt, end.status, end.outputFileId, end.errorFileId, end.unanswered],
  );
  if (!rows[0]) throw new BatchLost(lease);
  await tx.query('delete from batch_requests where batch_id = $1', [lease.batchId]);
  await announce(tx, { projectId: rows[0].projectId, type: `batch.${end.status}`, id: lease.batchId });
}
