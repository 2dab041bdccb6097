// API schemas of rate limits of a project.
import { type Static, Type } from 'typebox';
import type { RateLimit, RateLimits } from '../store/rate-limits.ts';
import { After, Limit, ListOf, type WithDefaults } from './lists.ts';
import { ProjectId } from './projects.ts';

/** OpenAI's limits are required numbers: this value or a larger one means no limit. */
export const NO_LIMIT = 2 ** 31 - 1;

const number = (description: string) => Type.Integer({ minimum: 0, description });
const limits = {
  max_requests_per_1_minute: number(`${NO_LIMIT}: unlimited.`),
  max_tokens_per_1_minute: number(`Input and output tokens together. ${NO_LIMIT}: unlimited.`),
  max_requests_per_1_day: number(`${NO_LIMIT}: unlimited.`),
};

export const ProjectRateLimit = Type.Object(
  {
    id: Type.String({ description: '`rl-` and the model.' }),
    object: Type.Literal('project.rate_limit'),
    model: Type.String({
      description: 'A base model, including everything trained from it; `all`: all models together.',
    }),
    ...limits,
  },
  { $id: 'ProjectRateLimit', description: 'Rate limit of a project for a model.' },
);

export const ProjectRateLimitListResponse = ListOf(
  'ProjectRateLimitListResponse',
  Type.Ref('ProjectRateLimit'),
  'A page of rate limits, the one for all models first.',
);

export const ProjectRateLimitUpdateRequest = Type.Partial(Type.Object(limits), {
  $id: 'ProjectRateLimitUpdateRequest',
  additionalProperties: false,
  examples: [{ max_requests_per_1_minute: 500, max_tokens_per_1_minute: 30_000 }],
});
export type UpdateRateLimitBody = Static<typeof ProjectRateLimitUpdateRequest>;

export const ListRateLimitsQuery = Type.Object({
  after: After,
  before: Type.Optional(
    Type.String({
      description: 'Id of the first object of the next page; the page ends before it.',
      maxLength: 300,
    }),
  ),
  limit: Limit(100, 100),
});
export type ListRateLimitsQuery = WithDefaults<Static<typeof ListRateLimitsQuery>, 'limit'>;

export const RateLimitId = Type.Object({
  ...ProjectId.properties,
  rate_limit_id: Type.String({ description: 'Id of a rate limit.', examples: ['rl-all'] }),
});
export type RateLimitId = Static<typeof RateLimitId>;

const ID = 'rl-';
export const modelOfId = (id: string): string | null => (id.startsWith(ID) ? id.slice(ID.length) : null);

export function rateLimitToWire(limit: RateLimit) {
  return {
    id: `${ID}${limit.model}`,
    object: 'project.rate_limit' as const,
    model: limit.model,
    max_requests_per_1_minute: limit.requestsPerMinute ?? NO_LIMIT,
    max_tokens_per_1_minute: limit.tokensPerMinute ?? NO_LIMIT,
    max_requests_per_1_day: limit.requestsPerDay ?? NO_LIMIT,
  };
}

/** Absent fields stay unchanged. */
export function changeLimits(before: RateLimits, body: UpdateRateLimitBody): RateLimits {
  const changed = (value: number | undefined, old: number | null) =>
    value === undefined ? old : value >= NO_LIMIT ? null : value;
  return {
    requestsPerMinute: changed(body.max_requests_per_1_minute, before.requestsPerMinute),
    tokensPerMinute: changed(body.max_tokens_per_1_minute, before.tokensPerMinute),
    requestsPerDay: changed(body.max_requests_per_1_day, before.requestsPerDay),
  };
}

export const exampleRateLimit = {
  id: 'rl-all',
  object: 'project.rate_limit',
  model: 'all',
  max_requests_per_1_minute: 500,
  max_tokens_per_1_minute: 30_000,
  max_requests_per_1_day: NO_LIMIT,
};
