// Cursor pagination: the request of a page, where it begins, and `has_more` from one row more than the limit.
import type { Queryable } from './database.ts';

export interface PageRequest {
  limit: number;
  /** Id of the last row of the previous page. */
  after?: string | undefined;
}

export interface Page<Row> {
  rows: Row[];
  hasMore: boolean;
}

/** `rows` were read with a limit of `limit + 1`. */
export function toPage<Row>(rows: Row[], limit: number): Page<Row> {
  return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
}

/** A page of an in-memory list, which is oldest first. An unknown `after` gives an empty page. */
export function pageOf<Row extends { id: string }>(
  list: readonly Row[],
  { order, after, limit }: PageRequest & { order: 'asc' | 'desc' },
): Page<Row> {
  const rows = order === 'desc' ? list.toReversed() : list;
  const from = after === undefined ? 0 : rows.findIndex(({ id }) => id === after) + 1 || rows.length;
  return toPage(rows.slice(from, from + limit + 1), limit);
}

/** Names and parameters (such as `$1`) of a statement that lists rows which can be deleted. */
interface PlaceOptions {
  table: string;
  /** Id of the last row of the previous page. */
  id: string;
  /** Id of the list's owner (a project, an eval, a model), and its column. */
  list: string;
  column: string;
  /** First sort key of the list; the second is the id. */
  by?: 'created_at' | 'updated_at';
}

/**
 * SQL: the sort keys (time, id) of a row, also of one deleted within the last day (migrations/0025-deleted-places.sql). Without the
 * deleted ones, a client that deletes each object it lists would stop after the first page: the cursor of the next page is gone.
 */
export const placeOf = ({ table, id, list, column, by = 'created_at' }: PlaceOptions): string =>
  `(select ${by}, id from ${table} where id = ${id} and ${column} = ${list}
    union all select ${by}, id from deleted_places where id = ${id} and list = ${list} limit 1)`;

export async function forgetDeletedPlaces(db: Queryable): Promise<number> {
  const { rowCount } = await db.query(
    `delete from deleted_places where deleted_at < now() - interval '1 day'`,
  );
  return rowCount ?? 0;
}
