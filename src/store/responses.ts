// Stored responses of the Responses API. SQL only.
import type pg from 'pg';
import { inTransaction, type Queryable } from './database.ts';
import { placeOf } from './pages.ts';
import { announce } from './webhook-deliveries.ts';

export type ResponseStatus = 'queued' | 'in_progress' | 'completed' | 'failed' | 'incomplete' | 'cancelled';
type Item = Record<string, unknown>;

export interface StoredResponse {
  id: string;
  projectId: string;
  previousId: string | null;
  status: ResponseStatus;
  background: boolean;
  /** The request's items, with ids. */
  input: Item[];
  /** The response as it is sent. */
  response: Record<string, unknown> & { output: Item[] };
  /** True for a background response whose api process has stopped renewing its lease. */
  lost: boolean;
}

const LEASE_SECONDS = 15;

const columns = `id, project_id as "projectId", previous_id as "previousId", status, background, input, response,
  background and status in ('queued', 'in_progress') and lease_until < now() as lost`;

export async function insertResponse(
  db: Queryable,
  { id, projectId, previousId, status, background, input, response }: Omit<StoredResponse, 'lost'>,
): Promise<void> {
  await db.query(
    `insert into responses (id, project_id, previous_id, status, background, input, response, lease_until)
     values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))`,
    [
      id,
      projectId,
      previousId,
      status,
      background,
      JSON.stringify(input),
      JSON.stringify(response),
      LEASE_SECONDS,
    ],
  );
}

export async function findResponse(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<StoredResponse | null> {
  const { rows } = await db.query<StoredResponse>(
    `select ${columns} from responses where id = $1 and project_id = $2`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

/** The items of a response and of all its predecessors, oldest first. Null when one of them was deleted. */
export async function readConversation(db: Queryable, projectId: string, id: string): Promise<Item[] | null> {
  const { rows } = await db.query<{ previousId: string | null; input: Item[]; output: Item[] }>(
    `with recursive chain as (
       select id, previous_id, input, response, 0 as depth from responses where id = $1 and project_id = $2
       union all
       select earlier.id, earlier.previous_id, earlier.input, earlier.response, chain.depth + 1
       from responses earlier join chain on earlier.id = chain.previous_id and earlier.project_id = $2)
     select previous_id as "previousId", input, response -> 'output' as output from chain order by depth desc`,
    [id, projectId],
  );
  if (rows.length === 0 || rows[0]!.previousId !== null) return null;
  return rows.flatMap(({ input, output }) => [...input, ...output]);
}

/** Updates a response in progress; false when it has ended or was deleted. The end of a background response is announced to webhooks. */
export async function writeResponse(
  pool: pg.Pool,
  id: string,
  status: ResponseStatus,
  response: Record<string, unknown>,
): Promise<boolean> {
  return inTransaction(pool, async tx => {
    const { rows } = await tx.query<{ projectId: string; background: boolean }>(
      `update responses set status = $2, response = $3
       where id = $1 and status in ('queued', 'in_progress') returning project_id as "projectId", background`,
      [id, status, JSON.stringify(response)],
    );
    const written = rows[0];
    if (written?.background && status !== 'queued' && status !== 'in_progress')
      await announce(tx, { projectId: written.projectId, type: `response.${status}`, id });
    return written !== undefined;
  });
}

/** Renews the lease; false when the response has ended or was deleted. */
export async function keepResponseLease(db: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `update responses set lease_until = now() + make_interval(secs => $2)
     where id = $1 and status in ('queued', 'in_progress')`,
    [id, LEASE_SECONDS],
  );
  return rowCount === 1;
}

export async function deleteResponse(db: Queryable, projectId: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query('delete from responses where id = $1 and project_id = $2', [
    id,
    projectId,
  ]);
  return rowCount === 1;
}

export interface ResponsePage {
  projectId: string;
  /** Id of the last response of the previous page. */
  after: string | null;
  limit: number;
  createdAfter: Date | null;
  createdBefore: Date;
}

/** Finished responses, oldest first. Their content is not filtered in SQL, because Postgres cannot read json with U+0000. */
export async function listAnsweredResponses(db: Queryable, page: ResponsePage): Promise<StoredResponse[]> {
  const place = placeOf({ table: 'responses', id: '$2', list: '$1', column: 'project_id' });
  const { rows } = await db.query<StoredResponse>(
    `select ${columns} from responses
     where project_id = $1 and status in ('completed', 'incomplete')
       and ($2::text is null or (created_at, id) > ${place})
       and ($4::timestamptz is null or created_at >= $4) and created_at <= $5
     order by created_at, id
     limit $3`,
    [page.projectId, page.after, page.limit, page.createdAfter, page.createdBefore],
  );
  return rows;
}
