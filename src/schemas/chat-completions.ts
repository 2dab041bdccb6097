// API schemas of chat completions.
import { type Static, Type } from 'typebox';
import type { Message } from '../data/conversation.ts';
import { ApiError } from '../errors.ts';
import type { Candidate, TokenPiece } from '../serving/protocol.ts';
import {
  type AskedForm,
  type FunctionTool,
  functionFields,
  type GivenFunction,
  type ResponseFormat,
  readAnswerForm,
  readJsonFormat,
  ToolChoice,
  unsupportedTool,
} from './answer-forms.ts';
import { Choice } from './choice.ts';
import { NoEffect, Nullable, samplingParameters, Unserved, type UnservedTable } from './generation.ts';
import { Metadata } from './metadata.ts';

const contentPart = Type.Object({
  type: Type.String({ description: 'Only `text`, and `refusal` of an assistant, are supported.' }),
  text: Type.Optional(Type.String()),
  refusal: Type.Optional(Type.String()),
});

const toolCall = Type.Object({
  id: Type.Optional(Type.String()),
  type: Type.Optional(Type.String()),
  function: Type.Optional(Type.Object({ name: Type.String(), arguments: Type.String() })),
});

export const ChatCompletionMessage = Type.Object(
  {
    role: Choice(['developer', 'system', 'user', 'assistant', 'tool', 'function']),
    content: Nullable(
      Type.Union([Type.String(), Type.Array(contentPart)]),
      'Text, or parts of type `text`. Null only with `tool_calls`.',
    ),
    name: Nullable(Type.String()),
    refusal: Nullable(Type.String()),
    tool_calls: Nullable(Type.Array(toolCall)),
    tool_call_id: Type.Optional(
      Type.String({ description: 'Id of the call that a `tool` message answers.' }),
    ),
    function_call: Nullable(Type.Object({ name: Type.String(), arguments: Type.String() })),
    audio: Unserved,
    annotations: NoEffect,
  },
  { $id: 'ChatCompletionMessage', description: 'A message of a conversation.' },
);

export const exampleChatRequest = {
  model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
  messages: [{ role: 'user', content: 'My parcel came broken.' }],
  temperature: 0,
};

export const CreateChatCompletionRequest = Type.Object(
  {
    model: Type.String({ minLength: 1, description: 'A base model, a fine-tuned model, or a checkpoint.' }),
    messages: Type.Array(Type.Ref('ChatCompletionMessage'), {
      minItems: 1,
      description: 'The conversation so far.',
    }),
    ...samplingParameters,
    max_completion_tokens: Nullable(
      Type.Integer({ minimum: 1 }),
      'Most tokens to generate; default: as many as fit.',
    ),
    max_tokens: Type.Optional(
      Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], {
        deprecated: true,
        description: 'Use `max_completion_tokens`.',
      }),
    ),
    logprobs: Nullable(Type.Boolean(), 'Return the log-probability of every token.'),
    top_logprobs: Nullable(
      Type.Integer({ minimum: 0, maximum: 20 }),
      'Return this many alternatives per token; needs `logprobs`.',
    ),
    tools: Nullable(
      Type.Array(Type.Ref('ChatCompletionTool'), { maxItems: 128 }),
      'Functions the model may call. A model whose chat template does not support tools is a 400.',
    ),
    tool_choice: Nullable(ToolChoice),
    parallel_tool_calls: Nullable(Type.Boolean(), 'Allow several calls in one answer; default true.'),
    functions: Type.Optional(
      Type.Union([Type.Array(Type.Object(functionFields), { minItems: 1, maxItems: 128 }), Type.Null()], {
        deprecated: true,
        description: 'Use `tools`.',
      }),
    ),
    function_call: Type.Optional(
      Type.Union([Choice(['none', 'auto']), Type.Object({ name: Type.String() }), Type.Null()], {
        deprecated: true,
        description: 'Use `tool_choice`.',
      }),
    ),
    response_format: Nullable(Type.Ref('ResponseFormat'), 'Form of the answer; default: text.'),
    store: Nullable(Type.Boolean(), 'Store the conversation and its answer; default false.'),
    metadata: Nullable(Metadata, 'Metadata of a stored answer.'),
    prediction: NoEffect,
    prompt_cache_key: NoEffect,
    prompt_cache_options: NoEffect,
    prompt_cache_retention: NoEffect,
    safety_identifier: NoEffect,
    service_tier: NoEffect,
    audio: Unserved,
    modalities: Unserved,
    moderation: Unserved,
    reasoning_effort: Unserved,
    verbosity: Unserved,
    web_search_options: Unserved,
  },
  {
    $id: 'CreateChatCompletionRequest',
    examples: [exampleChatRequest],
    additionalProperties: false,
    description: 'A conversation to continue.',
  },
);

/** `Type.Ref` has no static type of its own. */
export type ChatCompletionBody = Omit<
  Static<typeof CreateChatCompletionRequest>,
  'messages' | 'tools' | 'response_format'
> & {
  messages: Static<typeof ChatCompletionMessage>[];
  tools?: Static<typeof FunctionTool>[] | null;
  response_format?: Static<typeof ResponseFormat> | null;
};

const isNever = (): boolean => false;

export const unservedChatParameters: UnservedTable = {
  modalities: value => Array.isArray(value) && value.every(modality => modality === 'text'),
  reasoning_effort: value => value === 'none',
  verbosity: value => value === 'medium',
  audio: isNever,
  moderation: isNever,
  web_search_options: isNever,
};

/** Tools and response format. Throws for unsupported ones. */
export function readForm(body: ChatCompletionBody): AskedForm {
  const { functions, tools, response_format: format } = body;
  if (functions && tools)
    throw new ApiError('invalid_value', "'functions' and 'tools' cannot be used together: use 'tools'.", {
      param: 'functions',
    });
  if (format?.type === 'json_schema' && !format.json_schema)
    throw new ApiError(
      'missing_required_parameter',
      "Missing required parameter: 'response_format.json_schema'.",
      {
        param: 'response_format.json_schema',
      },
    );
  const given = format && { type: format.type, ...format.json_schema };
  return readAnswerForm({
    functions: functions
      ? functions.map((each, i) => ({ ...each, at: `functions[${i}]` }))
      : (tools ?? []).map(readTool),
    choice: functions ? legacyChoice(body.function_call ?? null) : (body.tool_choice ?? null),
    // The deprecated form holds only one call.
    parallel: !functions && body.parallel_tool_calls !== false,
    json: readJsonFormat(given ?? null, 'response_format.json_schema.schema'),
  });
}

function readTool(tool: Static<typeof FunctionTool>, index: number): GivenFunction {
  const at = `tools[${index}].function`;
  if (tool.type !== 'function') throw unsupportedTool(`tools[${index}]`, tool.type);
  if (!tool.function)
    throw new ApiError('missing_required_parameter', `Missing required parameter: '${at}'.`, { param: at });
  return { ...tool.function, at };
}

const legacyChoice = (choice: ChatCompletionBody['function_call'] | null): ToolChoice | null =>
  choice && typeof choice === 'object' ? { type: 'function', name: choice.name } : (choice ?? null);

/** Messages in the form that chat templates expect. Throws for parts that are not text and for tool messages without a matching call. */
export function readMessages(body: ChatCompletionBody): Message[] {
  return body.messages.map((message, index) => {
    const at = `messages[${index}]`;
    checkCalls(body.messages, index);
    if (message.audio) throw unsupportedPart(`${at}.audio`, 'audio');
    const { annotations: _annotations, audio: _audio, ...rest } = message;
    const content = readContent(message.content, `${at}.content`);
    const answersNothing =
      content === null && !message.tool_calls?.length && !message.function_call && !message.refusal;
    if (answersNothing)
      throw new ApiError('invalid_type', `Invalid value for '${at}.content': expected a string, got null.`, {
        param: `${at}.content`,
      });
    return withoutNulls({ ...rest, content: content ?? undefined }) as unknown as Message;
  });
}

function checkCalls(messages: ChatCompletionBody['messages'], index: number): void {
  const { role, tool_call_id: id, tool_calls: calls } = messages[index]!;
  const at = `messages[${index}]`;
  const odd = (calls ?? []).findIndex(call => (call.type ?? 'function') !== 'function' || !call.function);
  if (odd >= 0) throw unsupportedTool(`${at}.tool_calls[${odd}]`, String(calls![odd]!.type));
  if (role !== 'tool') return;
  if (id === undefined)
    throw new ApiError('missing_required_parameter', `Missing required parameter: '${at}.tool_call_id'.`, {
      param: `${at}.tool_call_id`,
    });
  const asked = messages.slice(0, index).some(message => message.tool_calls?.length);
  if (!asked)
    throw new ApiError(
      'invalid_value',
      "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
      { param: `${at}.role` },
    );
}

function readContent(content: Static<typeof ChatCompletionMessage>['content'], at: string): string | null {
  if (content === null || content === undefined || typeof content === 'string') return content ?? null;
  return content
    .map((part, index) => {
      const text = part.type === 'text' ? part.text : part.type === 'refusal' ? part.refusal : undefined;
      if (text === undefined) throw unsupportedPart(`${at}[${index}]`, part.type);
      return text;
    })
    .join('\n');
}

const unsupportedPart = (param: string, type: string): ApiError =>
  new ApiError(
    'unsupported_value',
    `Invalid value: '${param}' is of type '${type}'. Supported are: 'text'.`,
    { param },
  );

const withoutNulls = (value: object): object =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null && each !== undefined));

const candidate = {
  token: Type.String({ description: 'Text of the token; incomplete characters as `\\xe2`.' }),
  logprob: Type.Number({ description: 'Log-probability under the model, regardless of temperature.' }),
  bytes: Type.Union([Type.Array(Type.Integer()), Type.Null()]),
};

export const ChatCompletionTokenLogprob = Type.Object(
  { ...candidate, top_logprobs: Type.Array(Type.Object(candidate)) },
  { $id: 'ChatCompletionTokenLogprob', description: 'A token with its log-probability.' },
);

const logprobs = Type.Union([
  Type.Object({
    content: Type.Union([Type.Array(Type.Ref('ChatCompletionTokenLogprob')), Type.Null()]),
    refusal: Type.Union([Type.Array(Type.Ref('ChatCompletionTokenLogprob')), Type.Null()]),
  }),
  Type.Null(),
]);
const finishReason = Choice(['stop', 'length', 'tool_calls', 'function_call'], {
  description:
    '`stop`: the model ended its turn, or a stop text was generated. `length`: the token limit. `tool_calls`: the model calls tools.',
});

const calledFunction = Type.Object({
  name: Type.String(),
  arguments: Type.String({ description: 'JSON as generated by the model.' }),
});

const envelope = {
  id: Type.String(),
  created: Type.Integer(),
  model: Type.String({ description: 'As in the request.' }),
  service_tier: Type.Literal('default'),
  system_fingerprint: Type.String({ description: "Identifies the model's files." }),
};

const NullableJson = Type.Optional(Type.Unknown());

/** Additional fields of a stored completion: the parameters of its request. */
const storedFields = {
  metadata: Type.Optional(Type.Union([Metadata, Type.Null()])),
  request_id: Type.Optional(Type.String()),
  temperature: NullableJson,
  top_p: NullableJson,
  presence_penalty: NullableJson,
  frequency_penalty: NullableJson,
  seed: NullableJson,
  tools: NullableJson,
  tool_choice: NullableJson,
  response_format: NullableJson,
  input_user: NullableJson,
};

export const ChatCompletion = Type.Object(
  {
    ...envelope,
    object: Type.Literal('chat.completion'),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        message: Type.Object({
          role: Type.Literal('assistant'),
          content: Type.Union([Type.String(), Type.Null()], {
            description: 'Null if there are only calls.',
          }),
          refusal: Type.Union([Type.String(), Type.Null()]),
          annotations: Type.Array(Type.Unknown()),
          tool_calls: Type.Optional(
            Type.Array(
              Type.Object({ id: Type.String(), type: Type.Literal('function'), function: calledFunction }),
            ),
          ),
          function_call: Type.Optional(calledFunction),
        }),
        logprobs,
        finish_reason: finishReason,
      }),
    ),
    usage: Type.Ref('CompletionUsage'),
    ...storedFields,
  },
  { $id: 'ChatCompletion', description: "The model's answer." },
);

export const ChatCompletionChunk = Type.Object(
  {
    ...envelope,
    object: Type.Literal('chat.completion.chunk'),
    choices: Type.Array(
      Type.Object({
        index: Type.Integer(),
        delta: Type.Object({
          role: Type.Optional(Type.Literal('assistant')),
          content: Type.Optional(Type.Union([Type.String(), Type.Null()])),
          refusal: Type.Optional(Type.Union([Type.String(), Type.Null()])),
          tool_calls: Type.Optional(
            Type.Array(
              Type.Object({
                index: Type.Integer(),
                id: Type.Optional(Type.String()),
                type: Type.Optional(Type.Literal('function')),
                function: Type.Partial(calledFunction),
              }),
            ),
          ),
          function_call: Type.Optional(Type.Partial(calledFunction)),
        }),
        logprobs,
        finish_reason: Type.Union([finishReason, Type.Null()]),
      }),
    ),
    usage: Type.Optional(
      Type.Union([Type.Ref('CompletionUsage'), Type.Null()], {
        description: 'With `include_usage`: null except in the last event.',
      }),
    ),
  },
  { $id: 'ChatCompletionChunk', description: 'One event of a streamed answer.' },
);

/** OpenAI's value for a probability of 0, since JSON has no infinity. */
const NEVER = -9999;

const candidateToWire = ({ text, bytes, logprob }: Candidate) => ({
  token: text,
  logprob: Math.max(NEVER, logprob ?? NEVER),
  bytes,
});

/** Null if no log-probabilities were requested. */
export const chatLogprobsToWire = (asked: boolean, tokens: readonly TokenPiece[]) =>
  asked
    ? {
        content: tokens.map(token => ({
          ...candidateToWire(token),
          top_logprobs: token.top.map(candidateToWire),
        })),
        refusal: null,
      }
    : null;

export const exampleChatCompletion = {
  id: 'chatcmpl-Abc123Abc123Abc123Abc123',
  object: 'chat.completion',
  created: 1_780_000_000,
  model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
  service_tier: 'default',
  system_fingerprint: 'fp_0123456789',
  choices: [
    {
      index: 0,
      message: { role: 'assistant', content: 'returns', refusal: null, annotations: [] },
      logprobs: null,
      finish_reason: 'stop',
    },
  ],
  usage: {
    prompt_tokens: 14,
    completion_tokens: 2,
    total_tokens: 16,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  },
};
