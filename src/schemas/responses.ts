// API schemas of the Responses API: requests, responses, events.
import { type Static, Type } from 'typebox';
import { ApiError } from '../errors.ts';
import {
  type AskedForm,
  functionFields,
  type GivenFunction,
  readAnswerForm,
  readJsonFormat,
  schemaFields,
  ToolChoice,
  unsupportedTool,
} from './answer-forms.ts';
import { Choice } from './choice.ts';
import { errorResponses } from './errors.ts';
import {
  NoEffect,
  Nullable,
  refuseUnserved,
  samplingParameters,
  Unserved,
  type UnservedTable,
  type Usage,
} from './generation.ts';
import { After, Limit, ListOf, type WithDefaults } from './lists.ts';
import { Metadata } from './metadata.ts';
import type { InputItem } from './response-items.ts';

const { temperature, top_p, stream, user } = samplingParameters;

/** Only function tools are supported; other kinds have other fields. */
const Tool = Type.Object({
  type: Type.String({ description: 'Only `function` is supported.' }),
  ...functionFields,
  name: Type.Optional(functionFields.name),
});

const TextFormat = Type.Object({
  type: Choice(['text', 'json_object', 'json_schema']),
  ...schemaFields,
  name: Type.Optional(schemaFields.name),
  schema: Type.Optional(Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true })),
});

const LOGPROBS = 'message.output_text.logprobs';
const includable = [
  LOGPROBS,
  'file_search_call.results',
  'web_search_call.results',
  'web_search_call.action.sources',
  'message.input_image.image_url',
  'computer_call_output.output.image_url',
  'code_interpreter_call.outputs',
  'reasoning.encrypted_content',
] as const;

export const exampleResponseRequest = {
  model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
  input: 'My parcel came broken.',
  temperature: 0,
};

export const CreateResponseRequest = Type.Object(
  {
    model: Type.String({ minLength: 1, description: 'A base model, a fine-tuned model, or a checkpoint.' }),
    input: Nullable(
      Type.Union([Type.String(), Type.Array(Type.Ref('ResponseInputItem'))]),
      'User text, or items: messages, function calls and their outputs.',
    ),
    instructions: Nullable(
      Type.String(),
      'System message before the input; not inherited from a previous response.',
    ),
    previous_response_id: Nullable(Type.String(), 'A stored response to continue.'),
    tools: Nullable(Type.Array(Tool, { maxItems: 128 })),
    tool_choice: Nullable(ToolChoice),
    parallel_tool_calls: Nullable(Type.Boolean(), 'Allow several calls in one answer; default true.'),
    text: Nullable(
      Type.Object({ format: Nullable(TextFormat), verbosity: Unserved }),
      '`format`: form of the answer, like `response_format` of chat completions.',
    ),
    temperature,
    top_p,
    max_output_tokens: Nullable(
      Type.Integer({ minimum: 16 }),
      'Most tokens to generate; default: as many as fit.',
    ),
    top_logprobs: Nullable(
      Type.Integer({ minimum: 0, maximum: 20 }),
      `Alternatives per token; needs \`include\` with \`${LOGPROBS}\`.`,
    ),
    include: Nullable(Type.Array(Choice(includable)), `Only \`${LOGPROBS}\` has an effect.`),
    truncation: Nullable(
      Choice(['auto', 'disabled']),
      '`auto`: drop the oldest turns if the context is too long; otherwise that is a 400.',
    ),
    store: Nullable(Type.Boolean(), 'Store the response; default true.'),
    background: Nullable(
      Type.Boolean(),
      'Answer at once and continue in the background; needs `store`, and no `stream`.',
    ),
    metadata: Nullable(Metadata),
    stream,
    stream_options: NoEffect,
    user,
    max_tool_calls: NoEffect,
    prompt_cache_key: NoEffect,
    prompt_cache_options: NoEffect,
    prompt_cache_retention: NoEffect,
    safety_identifier: NoEffect,
    service_tier: NoEffect,
    context_management: Unserved,
    conversation: Unserved,
    moderation: Unserved,
    prompt: Unserved,
    reasoning: Unserved,
  },
  {
    $id: 'CreateResponseRequest',
    examples: [exampleResponseRequest],
    additionalProperties: false,
    description: 'Input of a response.',
  },
);
export type ResponseBody = Omit<Static<typeof CreateResponseRequest>, 'input'> & {
  input?: string | InputItem[] | null;
};

const isNever = (): boolean => false;

const unserved: UnservedTable = {
  context_management: value => Array.isArray(value) && value.length === 0,
  conversation: isNever,
  moderation: isNever,
  prompt: isNever,
  reasoning: value => Object.values(value as object).every(each => each === null || each === 'none'),
};

/** Checks what the JSON schema cannot express. Throws ApiError. */
export function checkResponseBody(body: ResponseBody): void {
  refuseUnserved(body, unserved);
  refuseUnserved(
    { 'text.verbosity': body.text?.verbosity },
    { 'text.verbosity': value => value === 'medium' },
  );
  if (body.background && body.store === false)
    throw new ApiError('invalid_value', "'background' needs 'store' to be true.", { param: 'background' });
  if (body.background && body.stream)
    throw new ApiError(
      'unsupported_value',
      "A response in the background cannot be streamed: read it until its status is 'completed'.",
      {
        param: 'stream',
      },
    );
}

export const asksLogprobs = ({ include }: ResponseBody): boolean => include?.includes(LOGPROBS) ?? false;

/** Tools and text format. Throws for unsupported ones. */
export function readResponseForm(body: ResponseBody): AskedForm {
  const format = body.text?.format ?? null;
  if (format?.type === 'json_schema' && (!format.name || !format.schema)) {
    const param = `text.format.${format.name ? 'schema' : 'name'}`;
    throw new ApiError('missing_required_parameter', `Missing required parameter: '${param}'.`, { param });
  }
  return readAnswerForm({
    functions: (body.tools ?? []).map(readTool),
    choice: body.tool_choice ?? null,
    parallel: body.parallel_tool_calls !== false,
    json: readJsonFormat(format, 'text.format.schema'),
  });
}

function readTool(tool: Static<typeof Tool>, index: number): GivenFunction {
  const at = `tools[${index}]`;
  if (tool.type !== 'function') throw unsupportedTool(at, tool.type);
  if (tool.name) return { ...tool, name: tool.name, at };
  throw new ApiError('missing_required_parameter', `Missing required parameter: '${at}.name'.`, {
    param: `${at}.name`,
  });
}

// ---- answers

const orNull = (schema: Parameters<typeof Type.Union>[0][number]) => Type.Union([schema, Type.Null()]);

export const ResponseUsage = Type.Object(
  {
    input_tokens: Type.Integer(),
    input_tokens_details: Type.Object({ cached_tokens: Type.Integer(), cache_write_tokens: Type.Integer() }),
    output_tokens: Type.Integer(),
    output_tokens_details: Type.Object({ reasoning_tokens: Type.Integer() }),
    total_tokens: Type.Integer(),
  },
  { $id: 'ResponseUsage', description: 'Tokens used by a response.' },
);

export const ResponseSchema = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('response'),
    created_at: Type.Integer(),
    completed_at: orNull(Type.Integer()),
    status: Choice(['queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled']),
    background: Type.Boolean(),
    error: orNull(Type.Object({ code: Type.String(), message: Type.String() })),
    incomplete_details: orNull(Type.Object({ reason: Choice(['max_output_tokens']) })),
    instructions: orNull(Type.String()),
    max_output_tokens: orNull(Type.Integer()),
    max_tool_calls: orNull(Type.Integer()),
    model: Type.String(),
    output: Type.Array(Type.Union([Type.Ref('ResponseOutputMessage'), Type.Ref('ResponseFunctionCall')])),
    parallel_tool_calls: Type.Boolean(),
    previous_response_id: orNull(Type.String()),
    reasoning: Type.Object({ effort: orNull(Type.String()), summary: orNull(Type.String()) }),
    service_tier: Type.Literal('default'),
    store: Type.Boolean(),
    temperature: Type.Number(),
    text: Type.Object({ format: Type.Object({ type: Type.String() }), verbosity: Type.Literal('medium') }),
    tool_choice: Type.Union([Type.String(), Type.Object({ type: Type.String() })]),
    tools: Type.Array(Type.Object({ type: Type.Literal('function'), name: Type.String() })),
    top_logprobs: Type.Integer(),
    top_p: Type.Number(),
    truncation: Choice(['auto', 'disabled']),
    usage: orNull(Type.Ref('ResponseUsage')),
    user: orNull(Type.String()),
    metadata: Metadata,
  },
  { $id: 'Response', description: 'A response.' },
);

export const ResponseStreamEvent = Type.Object(
  { type: Type.String(), sequence_number: Type.Integer() },
  {
    $id: 'ResponseStreamEvent',
    additionalProperties: true,
    description:
      'One event of a stream: `response.created`, `.in_progress`, `.output_item.added`, `.content_part.added`, `.output_text.delta`, `.output_text.done`, `.content_part.done`, `.function_call_arguments.delta`, `.function_call_arguments.done`, `.output_item.done`, and last `.completed`, `.incomplete` or `.failed`.',
  },
);

/** The response object during generation; updated in place. */
export interface WireResponse extends Record<string, unknown> {
  id: string;
  status: 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled';
  output: Record<string, unknown>[];
  error: { code: string; message: string } | null;
  incomplete_details: { reason: 'max_output_tokens' } | null;
  completed_at: number | null;
  usage: object | null;
}

export function newWireResponse(body: ResponseBody, id: string, createdAt: number): WireResponse {
  return {
    id,
    object: 'response',
    created_at: createdAt,
    completed_at: null,
    status: body.background ? 'queued' : 'in_progress',
    background: body.background === true,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: null,
    model: body.model,
    output: [],
    parallel_tool_calls: body.parallel_tool_calls !== false,
    previous_response_id: body.previous_response_id ?? null,
    reasoning: { effort: null, summary: null },
    service_tier: 'default',
    store: body.store !== false,
    temperature: body.temperature ?? 1,
    text: { format: formatToWire(body.text?.format), verbosity: 'medium' },
    tool_choice: body.tool_choice ?? 'auto',
    tools: (body.tools ?? []).map(toolToWire),
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? 1,
    truncation: body.truncation ?? 'disabled',
    usage: null,
    user: body.user ?? null,
    metadata: body.metadata ?? {},
  };
}

const formatToWire = (format: Static<typeof TextFormat> | null | undefined) =>
  format?.type === 'json_schema'
    ? { ...format, description: format.description ?? null, strict: format.strict === true }
    : { type: format?.type ?? 'text' };

const toolToWire = ({ name, description, parameters, strict }: Static<typeof Tool>) => ({
  type: 'function',
  name,
  description: description ?? null,
  parameters: parameters ?? null,
  strict: strict === true,
});

export const responseUsageToWire = ({ promptTokens, completionTokens }: Usage) => ({
  input_tokens: promptTokens,
  input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
  output_tokens: completionTokens,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: promptTokens + completionTokens,
});

// ---- other requests

export const ResponseId = Type.Object({
  response_id: Type.String({ description: 'Id of the response.', examples: ['resp_Abc123'] }),
});
export type ResponseId = Static<typeof ResponseId>;

export const RetrieveResponseQuery = Type.Object({
  stream: Type.Optional(Type.Boolean({ description: 'Not supported: must be false.' })),
});
export type RetrieveResponseQuery = Static<typeof RetrieveResponseQuery>;

export const ListInputItemsQuery = Type.Object({
  limit: Limit(20, 100),
  order: Type.Optional(
    Choice(['asc', 'desc'], { default: 'desc', description: 'Order by position in the input.' }),
  ),
  after: After,
});
export type ListInputItemsQuery = WithDefaults<Static<typeof ListInputItemsQuery>, 'limit' | 'order'>;

export const ListResponseItemsResponse = ListOf(
  'ListResponseItemsResponse',
  Type.Ref('ResponseItem'),
  'A page of items.',
);

export const DeleteResponseResponse = Type.Object(
  { id: Type.String(), object: Type.Literal('response'), deleted: Type.Boolean() },
  { $id: 'DeleteResponseResponse', description: 'The deleted object.' },
);

export const exampleResponse = {
  ...newWireResponse({ ...exampleResponseRequest }, 'resp_Abc123Abc123Abc123Abc123', 1_780_000_000),
  status: 'completed',
  completed_at: 1_780_000_001,
  output: [
    {
      id: 'msg_Abc123Abc123Abc123Abc123',
      type: 'message',
      role: 'assistant',
      status: 'completed',
      content: [{ type: 'output_text', text: 'returns', annotations: [], logprobs: [] }],
    },
  ],
  usage: responseUsageToWire({ promptTokens: 14, completionTokens: 2 }),
};

export const exampleResponseEvent = {
  type: 'response.output_text.delta',
  sequence_number: 4,
  item_id: 'msg_Abc123Abc123Abc123Abc123',
  output_index: 0,
  content_index: 0,
  delta: 'returns',
  logprobs: [],
};

export const responseOrStream = {
  200: {
    description: 'The response, or the stream of its events.',
    content: {
      'application/json': { schema: Type.Ref('Response'), example: exampleResponse },
      'text/event-stream': { schema: Type.Ref('ResponseStreamEvent'), example: exampleResponseEvent },
    },
  },
  ...errorResponses(400, 404, 429, 503),
};
