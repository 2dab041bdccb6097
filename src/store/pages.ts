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
