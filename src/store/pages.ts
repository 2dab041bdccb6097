// Pages of a list: what is asked for, and how one row more than asked tells whether there is more. No table is named here.

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
