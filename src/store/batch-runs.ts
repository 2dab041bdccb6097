// What the runner of a batch writes while it holds the lease (leases.ts). SQL only.
import type pg from 'pg';
import { type Batch, type BatchError, batchColumns, takeable } from './batches.ts';
import type { Queryable } from './database.ts';
import { fenced, type Lease, LeaseLost, type Runner } from './leases.ts';
import { announce } from './webhook-deliveries.ts';

export type BatchLease = Lease<'batches'>;

/** Leases the batch that has waited longest for its turn; null when none is waiting. */
export async function takeBatch(db: Queryable, runner: Runner): Promise<BatchLease | null> {
  const { rows } = await db.query<{ id: string; attempt: number }>(
    `update batches set attempt = attempt + 1, runner_id = $1, lease_until = now() + make_interval(secs => $2),
       taken_at = now(), waits_until = null
     where id = (
       select id from batches where ${takeable}
       order by taken_at nulls first, created_at limit 1 for update skip locked)
     returning id, attempt`,
    [runner.id, runner.leaseSeconds],
  );
  const row = rows[0];
  return row ? { table: 'batches', ...row, runnerId: runner.id, leaseSeconds: runner.leaseSeconds } : null;
}

/** Ends the batch's turn. It is not taken again before `waitSeconds` have passed. */
export async function releaseBatch(
  db: Queryable,
  { id, attempt }: BatchLease,
  waitSeconds: number,
): Promise<void> {
  await db.query(
    `update batches set runner_id = null, lease_until = null,
       waits_until = case when $3 > 0 then now() + make_interval(secs => $3) end
     where id = $1 and attempt = $2`,
    [id, attempt, waitSeconds],
  );
}

/** Throws LeaseLost. */
export async function readLeasedBatch(db: Queryable, lease: BatchLease): Promise<Batch> {
  const { rows } = await db.query<Batch>(
    `select ${batchColumns} from batches where id = $1 and attempt = $2`,
    [lease.id, lease.attempt],
  );
  if (!rows[0]) throw new LeaseLost(lease);
  return rows[0];
}

// ---- validating

export interface BatchRequest {
  line: number;
  id: string;
  customId: string;
}

/** Stores the requests of a valid input file, in one transaction. Does nothing when the batch is being cancelled. */
export async function beginBatch(
  pool: pg.Pool,
  lease: BatchLease,
  { model, requests }: { model: string | null; requests: BatchRequest[] },
): Promise<void> {
  await fenced(pool, lease, async (tx, status) => {
    if (status !== 'validating') return;
    await tx.query(
      `update batches set status = 'in_progress', in_progress_at = now(), model = $2, total = $3 where id = $1`,
      [lease.id, model, requests.length],
    );
    await tx.query(
      `insert into batch_requests (batch_id, line, id, custom_id)
       select $1, line, id, custom_id from unnest($2::int[], $3::text[], $4::text[]) as request (line, id, custom_id)`,
      [
        lease.id,
        requests.map(({ line }) => line),
        requests.map(({ id }) => id),
        requests.map(({ customId }) => customId),
      ],
    );
  });
}

/** Does nothing when the batch is being cancelled. */
export async function failBatch(pool: pg.Pool, lease: BatchLease, errors: BatchError[]): Promise<void> {
  await fenced(pool, lease, async (tx, status) => {
    if (status !== 'validating') return;
    const { rows } = await tx.query<{ projectId: string }>(
      `update batches set status = 'failed', failed_at = now(), errors = $2, lease_until = null, runner_id = null
       where id = $1 returning project_id as "projectId"`,
      [lease.id, JSON.stringify(errors)],
    );
    await announce(tx, { projectId: rows[0]!.projectId, type: 'batch.failed', id: lease.id });
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

/** One statement instead of `fenced`, since a batch has many lines. False when the lease is lost or the batch is no longer in progress. */
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
      lease.id,
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

/** No request is answered after this. */
export async function finalizeBatch(pool: pg.Pool, lease: BatchLease): Promise<void> {
  await fenced(pool, lease, async (tx, status) => {
    if (status !== 'in_progress') return;
    await tx.query(
      `update batches set status = 'finalizing', finalizing_at = coalesce(finalizing_at, now()) where id = $1`,
      [lease.id],
    );
  });
}

export interface StoredRequest extends BatchRequest {
  response: LineAnswer['response'] | null;
}

const PAGE = 200;

/** In file order; holds one page in memory. */
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

/** Call inside `fenced`, in the transaction that inserts the result files. `unanswered` requests count as failed. */
export async function endBatch(
  tx: Queryable,
  { id }: BatchLease,
  end: { status: BatchEnd; outputFileId: string | null; errorFileId: string | null; unanswered: number },
): Promise<void> {
  const { rows } = await tx.query<{ projectId: string }>(
    `update batches set status = $2, ${end.status}_at = now(), output_file_id = $3, error_file_id = $4,
       failed = failed + $5, lease_until = null, runner_id = null
     where id = $1 returning project_id as "projectId"`,
    [id, end.status, end.outputFileId, end.errorFileId, end.unanswered],
  );
  await tx.query('delete from batch_requests where batch_id = $1', [id]);
  await announce(tx, { projectId: rows[0]!.projectId, type: `batch.${end.status}`, id });
}
