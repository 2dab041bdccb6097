// What was used, on the wire: buckets of time, each with a result for every group.
import { type Static, Type } from 'typebox';
import { ApiError } from '../errors.ts';
import type { TrainingSum, UsageFilter, UsageGroup, UsageSum } from '../store/usage.ts';
import { Choice } from './choice.ts';

const nullableString = Type.Union([Type.String(), Type.Null()]);

/** What a result is of; null where it is not grouped by. */
const groups = {
  project_id: nullableString,
  user_id: Type.Null({ description: 'Keys belong to no user.' }),
  api_key_id: nullableString,
  model: nullableString,
};

export const UsageCompletionsResult = Type.Object(
  {
    object: Type.Literal('organization.usage.completions.result'),
    num_model_requests: Type.Integer(),
    input_tokens: Type.Integer({ description: 'The cached ones too.' }),
    input_cached_tokens: Type.Integer(),
    output_tokens: Type.Integer(),
    input_audio_tokens: Type.Integer(),
    output_audio_tokens: Type.Integer(),
    ...groups,
    batch: Type.Union([Type.Boolean(), Type.Null()]),
    service_tier: Type.Union([Type.Literal('default'), Type.Null()]),
  },
  { $id: 'UsageCompletionsResult', description: 'What chat, completions and responses took.' },
);

export const UsageEmbeddingsResult = Type.Object(
  {
    object: Choice(
      ['embeddings', 'moderations', 'classifications'].map(kind => `organization.usage.${kind}.result`),
    ),
    num_model_requests: Type.Integer(),
    input_tokens: Type.Integer(),
    ...groups,
  },
  { $id: 'UsageEmbeddingsResult', description: 'What requests took whose answers are no tokens.' },
);

export const UsageFineTuningResult = Type.Object(
  {
    object: Type.Literal('organization.usage.fine_tuning.result'),
    num_jobs: Type.Integer({ description: 'That succeeded.' }),
    trained_tokens: Type.Integer(),
    ...groups,
  },
  { $id: 'UsageFineTuningResult', description: 'What training took, at the time of the end of each job.' },
);

export const CostsResult = Type.Object(
  {
    object: Type.Literal('organization.costs.result'),
    amount: Type.Object({
      value: Type.Number(),
      currency: Type.String({ description: '`ANNEAL_CURRENCY`.' }),
    }),
    line_item: nullableString,
    project_id: nullableString,
    api_key_id: nullableString,
    user_id: groups.user_id,
    quantity: Type.Union([Type.Number(), Type.Null()]),
    quantity_unit: Type.Union([Type.Literal('tokens'), Type.Null()]),
  },
  { $id: 'CostsResult', description: 'What something costs with the prices as they are set now.' },
);

const results = ['UsageCompletionsResult', 'UsageEmbeddingsResult', 'UsageFineTuningResult', 'CostsResult'];

export const UsageTimeBucket = Type.Object(
  {
    object: Type.Literal('bucket'),
    start_time: Type.Integer(),
    end_time: Type.Integer({ description: 'Exclusive.' }),
    results: Type.Array(Type.Union(results.map(name => Type.Ref(name))), {
      description: 'Empty where nothing was used.',
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
      description: 'Give it as `page` for the next buckets.',
    }),
  },
  { $id: 'UsageResponse', description: 'A page of buckets, oldest first.' },
);

// ---- queries

const texts = (description: string) => Type.Optional(Type.Array(Type.String(), { description }));

const timeQuery = {
  start_time: Type.Integer({ minimum: 0, description: 'Unix seconds; inclusive.' }),
  end_time: Type.Optional(
    Type.Integer({ minimum: 0, description: 'Unix seconds; exclusive. Default: now.' }),
  ),
  limit: Type.Optional(Type.Integer({ minimum: 1, description: 'Most buckets on the page.' })),
  page: Type.Optional(Type.String({ description: '`next_page` of the page before.', maxLength: 100 })),
  project_ids: texts('Only of these projects.'),
  api_key_ids: texts('Only of these keys.'),
};

const usageGroupNames = {
  project_id: 'projectId',
  api_key_id: 'apiKeyId',
  model: 'model',
  batch: 'batch',
  user_id: null,
  service_tier: null,
  api_source: null,
} as const satisfies Record<string, UsageGroup | null>;
type UsageGroupName = keyof typeof usageGroupNames;

export const UsageQuery = Type.Object({
  ...timeQuery,
  bucket_width: Type.Optional(Choice(['1m', '1h', '1d'], { default: '1d', description: 'Of each bucket.' })),
  models: texts('Only of these models.'),
  user_ids: texts('Only of these users; keys belong to none.'),
  batch: Type.Optional(Type.Boolean({ description: 'Only batches, or all but batches.' })),
  group_by: Type.Optional(
    Type.Array(Choice(Object.keys(usageGroupNames) as UsageGroupName[]), {
      description: 'What results are told apart by.',
    }),
  ),
});
export type UsageQuery = Static<typeof UsageQuery>;

export const costGroupNames = ['project_id', 'api_key_id', 'line_item', 'user_id', 'api_source'] as const;

export const CostsQuery = Type.Object({
  ...timeQuery,
  bucket_width: Type.Optional(Choice(['1d'], { default: '1d', description: 'Of each bucket.' })),
  line_items: texts('Only of these line items.'),
  group_by: Type.Optional(
    Type.Array(Choice(costGroupNames), { description: 'What results are told apart by.' }),
  ),
});
export type CostsQuery = Static<typeof CostsQuery>;

export const groupsOf = ({ group_by = [] }: UsageQuery): UsageGroup[] =>
  group_by.map(name => usageGroupNames[name]).filter(group => group !== null);

export const filterOf = (query: UsageQuery | CostsQuery) => ({
  projectIds: query.project_ids,
  apiKeyIds: query.api_key_ids,
  ...('models' in query ? { models: query.models } : {}),
  ...('batch' in query ? { batch: query.batch } : {}),
});

// ---- buckets

interface Width {
  seconds: number;
  /** Buckets on a page. */
  usual: number;
  most: number;
}

export const usageWidths = {
  '1m': { seconds: 60, usual: 60, most: 1440 },
  '1h': { seconds: 3600, usual: 24, most: 168 },
  '1d': { seconds: 86_400, usual: 7, most: 31 },
} as const satisfies Record<string, Width>;
export const costWidth: Width = { seconds: 86_400, usual: 7, most: 180 };

/** The buckets of a page. */
export interface Buckets {
  starts: number[];
  seconds: number;
  /** Where the next page begins. */
  next: number | null;
  range: Pick<UsageFilter, 'from' | 'until' | 'widthSeconds'>;
}

type TimeQuery = Pick<CostsQuery, 'start_time' | 'end_time' | 'limit' | 'page'>;

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

// ---- results

export function completionsResult(sum: UsageSum, groupBy: UsageQuery['group_by'] = []) {
  return {
    object: 'organization.usage.completions.result' as const,
    num_model_requests: sum.requests,
    input_tokens: sum.inputTokens,
    input_cached_tokens: sum.cachedTokens,
    output_tokens: sum.outputTokens,
    input_audio_tokens: 0,
    output_audio_tokens: 0,
    ...groupsToWire(sum),
    batch: sum.batch,
    service_tier: groupBy.includes('service_tier') ? ('default' as const) : null,
  };
}

export const inputResult = (kind: 'embeddings' | 'moderations' | 'classifications') => (sum: UsageSum) => ({
  object: `organization.usage.${kind}.result`,
  num_model_requests: sum.requests,
  input_tokens: sum.inputTokens,
  ...groupsToWire(sum),
});

export function fineTuningResult(sum: TrainingSum) {
  return {
    object: 'organization.usage.fine_tuning.result' as const,
    num_jobs: sum.jobs,
    trained_tokens: sum.trainedTokens,
    ...groupsToWire({ ...sum, apiKeyId: null }),
  };
}

const groupsToWire = (sum: Pick<UsageSum, 'projectId' | 'apiKeyId' | 'model'>) => ({
  project_id: sum.projectId,
  user_id: null,
  api_key_id: sum.apiKeyId,
  model: sum.model,
});

export const exampleUsage = {
  object: 'page',
  data: [
    {
      object: 'bucket',
      start_time: 1_779_926_400,
      end_time: 1_780_012_800,
      results: [
        {
          object: 'organization.usage.completions.result',
          num_model_requests: 5,
          input_tokens: 1000,
          input_cached_tokens: 0,
          output_tokens: 500,
          input_audio_tokens: 0,
          output_audio_tokens: 0,
          project_id: 'proj_Abc123Abc123Abc123Abc123',
          user_id: null,
          api_key_id: null,
          model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
          batch: null,
          service_tier: null,
        },
      ],
    },
  ],
  has_more: true,
  next_page: 'page_1780012800',
};

export const exampleCosts = {
  object: 'page',
  data: [
    {
      object: 'bucket',
      start_time: 1_779_926_400,
      end_time: 1_780_012_800,
      results: [
        {
          object: 'organization.costs.result',
          amount: { value: 0.06, currency: 'usd' },
          line_item: 'anneal-tiny, training_tokens',
          project_id: 'proj_Abc123Abc123Abc123Abc123',
          api_key_id: null,
          user_id: null,
          quantity: 20_000,
          quantity_unit: 'tokens',
        },
      ],
    },
  ],
  has_more: false,
  next_page: null,
};
