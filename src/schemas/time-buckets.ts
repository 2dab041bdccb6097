// Time buckets of usage and costs: query, pagination and page schema. The content of buckets is in usage.ts and costs.ts.
import { type Static, Type } from 'typebox';
import { ApiError } from '../errors.ts';
import type { UsageFilter } from '../store/usage.ts';
import { UnixSeconds } from './times.ts';

const results = ['UsageCompletionsResult', 'UsageEmbeddingsResult', 'UsageFineTuningResult', 'CostsResult'];

export const UsageTimeBucket = Type.Object(
  {
    object: Type.Literal('bucket'),
    start_time: Type.Integer(),
    end_time: Type.Integer({ description: 'Exclusive.' }),
    results: Type.Array(Type.Union(results.map(name => Type.Ref(name))), {
      description: 'Empty if nothing was used.',
    }),
  },
  { $id: 'UsageTimeBucket', description: 'A whole minute, hour or day of UTC.' },
);

export const UsageResponse = Type.Object(
  {
    object: Type.Literal('page'),
    data: Type.Array(Type.Ref('UsageTimeBucket')),
    has_more: Type.Boolean(),
    next_page: Type.Union([Type.String(), Type.Null()], {
      description: 'Pass it as `page` to get the next buckets.',
    }),
  },
  { $id: 'UsageResponse', description: 'A page of buckets, oldest first.' },
);

export const texts = (description: string) => Type.Optional(Type.Array(Type.String(), { description }));

/** Query parameters of all bucketed lists. */
export const TimeQuery = Type.Object({
  start_time: UnixSeconds('Unix seconds; inclusive.'),
  end_time: Type.Optional(UnixSeconds('Unix seconds; exclusive. Default: now.')),
  limit: Type.Optional(Type.Integer({ minimum: 1, description: 'Most buckets per page.' })),
  page: Type.Optional(Type.String({ description: '`next_page` of the previous page.', maxLength: 100 })),
  project_ids: texts('Only these projects.'),
  api_key_ids: texts('Only these keys.'),
});
export type TimeQuery = Static<typeof TimeQuery>;

export interface Width {
  seconds: number;
  /** Buckets on a page. */
  usual: number;
  most: number;
}

/** Buckets of a page, aligned to minutes, hours or days in UTC. */
export interface Buckets {
  starts: number[];
  seconds: number;
  /** Start of the next page. */
  next: number | null;
  range: Pick<UsageFilter, 'from' | 'until' | 'widthSeconds'>;
}

export function readBuckets(query: TimeQuery, { seconds, usual, most }: Width, now = new Date()): Buckets {
  const { limit = usual } = query;
  if (limit > most)
    throw new ApiError(
      'integer_above_max_value',
      `Invalid 'limit': integer above maximum value. Expected a value <= ${most} with this 'bucket_width', but got ${limit} instead.`,
      { param: 'limit' },
    );
  const end = query.end_time ?? Math.ceil(now.getTime() / 1000);
  if (end <= query.start_time)
    throw new ApiError('invalid_value', "'end_time' must be after 'start_time'.", { param: 'end_time' });
  const first = query.page === undefined ? query.start_time : readPage(query.page);
  const start = Math.floor(first / seconds) * seconds;
  const left = Math.max(0, Math.ceil((end - start) / seconds));
  const starts = Array.from({ length: Math.min(left, limit) }, (_, index) => start + index * seconds);
  const until = Math.min(end, start + starts.length * seconds);
  const range = {
    from: new Date(Math.max(first, start) * 1000),
    until: new Date(until * 1000),
    widthSeconds: seconds,
  };
  return { starts, seconds, next: left > limit ? start + limit * seconds : null, range };
}

const PAGE = 'page_';

function readPage(text: string): number {
  const seconds = text.startsWith(PAGE) ? text.slice(PAGE.length) : '';
  if (/^\d{1,12}$/.test(seconds)) return Number(seconds);
  throw new ApiError('invalid_value', "Invalid 'page': expected the 'next_page' of another page.", {
    param: 'page',
  });
}

export function toWireBuckets({ starts, seconds, next }: Buckets, sums: { start: number; result: object }[]) {
  const byStart = Map.groupBy(sums, sum => sum.start);
  return {
    object: 'page' as const,
    data: starts.map(start => ({
      object: 'bucket' as const,
      start_time: start,
      end_time: start + seconds,
      results: (byStart.get(start) ?? []).map(({ result }) => result),
    })),
    has_more: next !== null,
    next_page: next === null ? null : `${PAGE}${next}`,
  };
}
