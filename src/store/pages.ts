// Pages of a list: what is asked for, where a page begins, and how one row more than asked tells whether there is more.
import type { Queryable } from './database.ts';

export interface PageRequest {
  limit: number;
  /** Id of the last one of the page before. */
  after?: string | undefined;
}

export interface Page<Row> {
  rows: Row[];
  hasMore: boolean;
}

/** `rows` were read with `limit + 1`. */
export function toPage<Row>(rows: Row[], limit: number): Page<Row> {
  return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
}

/** A page of a list that is at hand, oldest first. One after an id that is not there is empty. */
export function pageOf<Row extends { id: string }>(
  list: readonly Row[],
  { order, after, limit }: PageRequest & { order: 'asc' | 'desc' },
): Page<Row> {
  const rows = order === 'desc' ? list.toReversed() : list;
  const from = after === undefined ? 0 : rows.findIndex(({ id }) => id === after) + 1 || rows.length;
  return toPage(rows.slice(from, from + limit + 1), limit);
}

/** Names and parameters (`$1`) of a statement that lists rows which can be deleted. */
interface PlaceOptions {
  table: string;
  /** Of the last row of the page before. */
  id: string;
  /** Whose list it is, and the column that says so. */
  list: string;
  column: string;
  /** What the list is ordered by, before the id. */
  by?: 'created_at' | 'updated_at';
}

/**
 * SQL: the place of a row in its list, as (time, id), also of one that was deleted within the last day (migrations/0025-deleted-places.sql).
 * Without it, deleting what is listed ends with the first page: its last row, after which the next one begins, is gone.
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
