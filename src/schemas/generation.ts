// API schemas shared by chat completions and completions: sampling parameters, usage, and unsupported parameters.
import { type Static, type TSchema, Type } from 'typebox';
import { ApiError } from '../errors.ts';
import { errorResponses } from './errors.ts';

/** Optional, with null like absent. Does not nest unions, since client generators cannot name the inner one. */
export const Nullable = <Schema extends TSchema>(schema: Schema, description?: string) => {
  const branches = 'anyOf' in schema ? (schema.anyOf as TSchema[]) : [schema];
  const union = Type.Union([...branches, Type.Null()], description ? { description } : {});
  return Type.Optional(Type.Unsafe<Static<Schema> | null>(union));
};

const penalty = (what: string) =>
  Nullable(
    Type.Number({ minimum: -2, maximum: 2 }),
    `Lowers the logits of generated tokens ${what}; default 0.`,
  );

export const samplingParameters = {
  temperature: Nullable(
    Type.Number({ minimum: 0, maximum: 2 }),
    "0 is greedy; 1 (default) samples from the model's distribution.",
  ),
  top_p: Nullable(
    Type.Number({ minimum: 0, maximum: 1 }),
    'Sample only from the most probable tokens that together reach this probability; default 1.',
  ),
  n: Nullable(Type.Integer({ minimum: 1, maximum: 128 }), 'Number of choices; default 1.'),
  seed: Nullable(
    Type.Integer({ minimum: -(2 ** 53), maximum: 2 ** 53 }),
    'The same seed and request give the same answer. Random by default.',
  ),
  frequency_penalty: penalty('by their frequency'),
  presence_penalty: penalty('once, whatever their frequency'),
  logit_bias: Nullable(
    Type.Record(Type.String(), Type.Number({ minimum: -100, maximum: 100 })),
    'Token id to the value added to its logit.',
  ),
  num_beams: Nullable(
    Type.Integer({ minimum: 1, maximum: 16 }),
    "Not in OpenAI's API. Above 1: beam search with this many beams, which returns the `n` best answers. " +
      'Not with `stream`, sampling parameters, tools or response formats; default 1.',
  ),
  length_penalty: Nullable(
    Type.Number({ minimum: -10, maximum: 10 }),
    "Not in OpenAI's API. A beam's log-probability is divided by its length to this power: above 0 favours longer answers; default 1.",
  ),
  early_stopping: Nullable(
    Type.Union([Type.Boolean(), Type.Literal('never')]),
    "Not in OpenAI's API. When beam search ends: `true` at as many answers as beams, `false` when a better one is unlikely, `never` when it is impossible; default `false`.",
  ),
  stop: Nullable(
    Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1, maxItems: 4 })]),
    'Up to 4 texts that end the answer.',
  ),
  stream: Nullable(Type.Boolean(), 'Stream the answer as server-sent events.'),
  stream_options: Nullable(
    Type.Object(
      {
        include_usage: Nullable(Type.Boolean(), 'Add a last event with the usage.'),
        include_obfuscation: Nullable(Type.Boolean(), 'No effect.'),
      },
      { additionalProperties: false },
    ),
  ),
  user: Nullable(Type.String(), 'No effect.'),
};

const samplingSchema = Type.Object(samplingParameters);
export type SamplingBody = Static<typeof samplingSchema>;

/** An OpenAI parameter that is accepted and has no effect here. */
export const NoEffect = Type.Optional(Type.Unknown({ description: 'No effect.' }));

/** An OpenAI parameter that is rejected unless its value is neutral. */
export const Unserved = Type.Optional(
  Type.Unknown({
    description: 'Not supported: refused with `unsupported_parameter` unless it asks for nothing.',
  }),
);

/** Parameter -> whether a value is neutral. Null and absent always are. */
export type UnservedTable = Record<string, (value: unknown) => boolean>;

/** Throws for the first unsupported parameter with a value that is not neutral. */
export function refuseUnserved(body: object, table: UnservedTable, where = 'this model'): void {
  for (const [param, asksNothing] of Object.entries(table)) {
    const value = (body as Record<string, unknown>)[param] ?? null;
    if (value === null || asksNothing(value)) continue;
    throw new ApiError(
      'unsupported_parameter',
      `Unsupported parameter: '${param}' is not supported with ${where}.`,
      {
        param,
      },
    );
  }
}

export const CompletionUsage = Type.Object(
  {
    prompt_tokens: Type.Integer(),
    completion_tokens: Type.Integer({ description: 'Tokens of all choices, including end tokens.' }),
    total_tokens: Type.Integer(),
    prompt_tokens_details: Type.Object({ cached_tokens: Type.Integer(), audio_tokens: Type.Integer() }),
    completion_tokens_details: Type.Object({
      reasoning_tokens: Type.Integer(),
      audio_tokens: Type.Integer(),
      accepted_prediction_tokens: Type.Integer(),
      rejected_prediction_tokens: Type.Integer(),
    }),
  },
  { $id: 'CompletionUsage', description: 'Tokens used by a request.' },
);

export interface Usage {
  promptTokens: number;
  completionTokens: number;
}

export const usageToWire = ({ promptTokens, completionTokens }: Usage) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
  prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
  completion_tokens_details: {
    reasoning_tokens: 0,
    audio_tokens: 0,
    accepted_prediction_tokens: 0,
    rejected_prediction_tokens: 0,
  },
});

/** Response of a generation route: an object, or a stream of events that ends with `[DONE]`. */
export const wholeOrStream = (description: string, whole: TSchema, example: unknown, event: TSchema) => ({
  200: {
    description,
    content: {
      'application/json': { schema: whole, example },
      'text/event-stream': { schema: event },
    },
  },
  ...errorResponses(400, 404, 429, 503),
});
