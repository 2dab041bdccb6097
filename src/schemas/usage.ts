// API schemas of usage: time buckets with a result per group.
import { type Static, Type } from 'typebox';
import type { TrainingSum, UsageGroup, UsageSum } from '../store/usage.ts';
import { Choice } from './choice.ts';
import { TimeQuery, texts, type Width } from './time-buckets.ts';

const nullableString = Type.Union([Type.String(), Type.Null()]);

/** Group keys of a result; null for those that are not grouped by. */
const groups = {
  project_id: nullableString,
  user_id: Type.Union([Type.String(), Type.Null()], { description: 'Null: keys belong to no user.' }),
  api_key_id: nullableString,
  model: nullableString,
};

export const UsageCompletionsResult = Type.Object(
  {
    object: Type.Literal('organization.usage.completions.result'),
    num_model_requests: Type.Integer(),
    input_tokens: Type.Integer({ description: 'Including cached tokens.' }),
    input_cached_tokens: Type.Integer(),
    output_tokens: Type.Integer(),
    input_audio_tokens: Type.Integer(),
    output_audio_tokens: Type.Integer(),
    ...groups,
    batch: Type.Union([Type.Boolean(), Type.Null()]),
    service_tier: Type.Union([Type.Literal('default'), Type.Null()]),
  },
  { $id: 'UsageCompletionsResult', description: 'Usage of chat, completions and responses.' },
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
  { $id: 'UsageEmbeddingsResult', description: 'Usage of requests whose answers are not tokens.' },
);

export const UsageFineTuningResult = Type.Object(
  {
    object: Type.Literal('organization.usage.fine_tuning.result'),
    num_jobs: Type.Integer({ description: 'Succeeded jobs.' }),
    trained_tokens: Type.Integer(),
    ...groups,
  },
  { $id: 'UsageFineTuningResult', description: 'Usage of training, at the time each job ended.' },
);

// ---- queries

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
  ...TimeQuery.properties,
  bucket_width: Type.Optional(
    Choice(['1m', '1h', '1d'], { default: '1d', description: 'Width of a bucket.' }),
  ),
  models: texts('Only these models.'),
  user_ids: texts('Only these users; keys belong to no user.'),
  batch: Type.Optional(Type.Boolean({ description: '`true`: only batches; `false`: without batches.' })),
  group_by: Type.Optional(
    Type.Array(Choice(Object.keys(usageGroupNames) as UsageGroupName[]), {
      description: 'Fields to group by.',
    }),
  ),
});
export type UsageQuery = Static<typeof UsageQuery>;

export const groupsOf = ({ group_by = [] }: UsageQuery): UsageGroup[] =>
  group_by.map(name => usageGroupNames[name]).filter(group => group !== null);

export const filterOf = (query: UsageQuery) => ({
  projectIds: query.project_ids,
  apiKeyIds: query.api_key_ids,
  models: query.models,
  batch: query.batch,
});

/** OpenAI's. */
export const usageWidths = {
  '1m': { seconds: 60, usual: 60, most: 1440 },
  '1h': { seconds: 3600, usual: 24, most: 168 },
  '1d': { seconds: 86_400, usual: 7, most: 31 },
} as const satisfies Record<string, Width>;

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
    ...groupsToWire(sum),
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
