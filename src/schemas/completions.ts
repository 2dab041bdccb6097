// API schemas of completions: generated text, and log-probabilities of prompt and completion.
import { type Static, Type } from 'typebox';
import type { Candidate, TokenPiece } from '../serving/protocol.ts';
import { Choice } from './choice.ts';
import { Nullable, samplingParameters, Unserved, type UnservedTable } from './generation.ts';

const MAX_PROMPTS = 256;
const tokens = Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 });

export const exampleCompletionRequest = {
  model: 'anneal-tiny',
  prompt: 'Once upon a time',
  max_tokens: 8,
  temperature: 0,
};

export const CreateCompletionRequest = Type.Object(
  {
    model: Type.String({ minLength: 1, description: 'A base model, a fine-tuned model, or a checkpoint.' }),
    prompt: Nullable(
      Type.Union([
        Type.String(),
        Type.Array(Type.String(), { minItems: 1, maxItems: MAX_PROMPTS }),
        tokens,
        Type.Array(tokens, { minItems: 1, maxItems: MAX_PROMPTS }),
      ]),
      'One or several texts, or their tokens. Default: the start of a document.',
    ),
    ...samplingParameters,
    best_of: Nullable(
      Type.Integer({ minimum: 0, maximum: 20 }),
      'Generate this many choices and return the `n` with the highest log-probability per token; default `n`.',
    ),
    echo: Nullable(
      Type.Boolean(),
      "Return the prompt before the answer; with `logprobs` and `max_tokens` 0, the prompt's log-probabilities.",
    ),
    logprobs: Nullable(
      Type.Integer({ minimum: 0, maximum: 5 }),
      'Return the log-probability of every token and this many alternatives.',
    ),
    max_tokens: Nullable(Type.Integer({ minimum: 0 }), 'Most tokens to generate; default 16.'),
    suffix: Unserved,
  },
  {
    $id: 'CreateCompletionRequest',
    examples: [exampleCompletionRequest],
    additionalProperties: false,
    description: 'A text to continue.',
  },
);
export type CompletionBody = Static<typeof CreateCompletionRequest>;

export const unservedCompletionParameters: UnservedTable = { suffix: value => value === '' };

const logprobs = Type.Union([
  Type.Object({
    text_offset: Type.Array(Type.Integer()),
    tokens: Type.Array(Type.String()),
    token_logprobs: Type.Array(Type.Union([Type.Number(), Type.Null()])),
    top_logprobs: Type.Array(Type.Union([Type.Record(Type.String(), Type.Number()), Type.Null()])),
  }),
  Type.Null(),
]);

export const Completion = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('text_completion'),
    created: Type.Integer(),
    model: Type.String({ description: 'As in the request.' }),
    system_fingerprint: Type.String({ description: "Identifies the model's files." }),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer({ description: 'Choices of the second prompt follow those of the first.' }),
        text: Type.String(),
        logprobs,
        finish_reason: Type.Union([Choice(['stop', 'length']), Type.Null()], {
          description: 'Null in all but the last event of a streamed choice.',
        }),
      }),
    ),
    usage: Type.Optional(
      Type.Union([Type.Ref('CompletionUsage'), Type.Null()], {
        description: 'In a stream only with `include_usage`: null except in the last event.',
      }),
    ),
  },
  { $id: 'Completion', description: 'A completion, or an event of its stream.' },
);

/** Tokens are keyed by their text; incomplete UTF-8 is written as `bytes:\x..`, as by OpenAI. */
const nameOf = ({ text, bytes }: Candidate): string =>
  Buffer.from(bytes).toString('utf8') === text ? text : `bytes:${text}`;

/** Includes the token itself, as OpenAI does. Null for the first token of an echoed prompt. */
const alternativesOf = (token: TokenPiece): Record<string, number> | null =>
  token.logprob === null
    ? null
    : Object.fromEntries([...token.top, token].map(each => [nameOf(each), each.logprob!]));

/** Null if no log-probabilities were requested. */
export const completionLogprobsToWire = (asked: boolean, pieces: readonly TokenPiece[]) =>
  asked
    ? {
        text_offset: pieces.map(({ offset }) => offset),
        tokens: pieces.map(nameOf),
        token_logprobs: pieces.map(({ logprob }) => logprob),
        top_logprobs: pieces.map(alternativesOf),
      }
    : null;

export const exampleCompletion = {
  id: 'cmpl-Abc123Abc123Abc123Abc123',
  object: 'text_completion',
  created: 1_780_000_000,
  model: 'anneal-tiny',
  system_fingerprint: 'fp_0123456789',
  choices: [{ index: 0, text: ' there was a small dog.', logprobs: null, finish_reason: 'length' }],
  usage: {
    prompt_tokens: 5,
    completion_tokens: 8,
    total_tokens: 13,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  },
};
