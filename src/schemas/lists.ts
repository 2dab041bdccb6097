// Query parameters and envelope of all lists.
import { type TSchema, Type } from 'typebox';
import type { Page } from '../store/pages.ts';

/** Id of the last object of the previous page. */
export const After = Type.Optional(
  Type.String({
    description: 'Id of the last object of the previous page.',
    maxLength: 300,
  }),
);

export function Limit(fallback: number, maximum: number) {
  const options = { minimum: 1, maximum, default: fallback, description: 'Most objects per page.' };
  return Type.Optional(Type.Integer(options));
}

/** A validated query, with defaults filled in. */
export type WithDefaults<Query, Names extends keyof Query> = Query & Required<Pick<Query, Names>>;

/** A named schema, for generated clients. */
export function ListOf($id: string, item: TSchema, description: string) {
  return Type.Object(
    {
      object: Type.Literal('list'),
      data: Type.Array(item),
      first_id: Type.Union([Type.String(), Type.Null()], {
        description: 'Id of the first object of this page.',
      }),
      last_id: Type.Union([Type.String(), Type.Null()], {
        description: 'Id of the last object of this page; pass it as `after` to get the next page.',
      }),
      has_more: Type.Boolean({ description: 'Whether there are objects after this page.' }),
    },
    { $id, description },
  );
}

export function toWireList<Row, Wire extends { id: string }>(page: Page<Row>, toWire: (row: Row) => Wire) {
  const data = page.rows.map(toWire);
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: page.hasMore,
  };
}

export function exampleList(...data: { id: string }[]) {
  return { object: 'list', data, first_id: data[0]!.id, last_id: data.at(-1)!.id, has_more: false };
}

export function unixSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}
