// Items of the Responses API: what requests give is read into messages of a conversation and into items that can be kept.
import { type Static, Type } from 'typebox';
import type { Message, ToolCall } from '../data/conversation.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import { Choice } from './choice.ts';

const status = Choice(['in_progress', 'completed', 'incomplete']);
const Part = Type.Object({
  type: Type.String({ description: 'Only `input_text`, `output_text` and `refusal` are served.' }),
  text: Type.Optional(Type.String()),
  refusal: Type.Optional(Type.String()),
});

export const ResponseInputItem = Type.Object(
  {
    type: Type.Optional(
      Type.String({ description: '`message` (also when absent), `function_call`, `function_call_output`.' }),
    ),
    id: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    role: Type.Optional(Choice(['user', 'assistant', 'system', 'developer'])),
    content: Type.Optional(Type.Union([Type.String(), Type.Array(Part)])),
    status: Type.Optional(Type.Union([status, Type.Null()])),
    call_id: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    name: Type.Optional(Type.String()),
    arguments: Type.Optional(Type.String()),
    output: Type.Optional(Type.Union([Type.String(), Type.Array(Part)])),
  },
  { $id: 'ResponseInputItem', description: 'A message, a call of a function, or what a function said.' },
);
export type InputItem = Static<typeof ResponseInputItem>;

const logprob = { token: Type.String(), logprob: Type.Number(), bytes: Type.Array(Type.Integer()) };

export const ResponseOutputMessage = Type.Object(
  {
    id: Type.String(),
    type: Type.Literal('message'),
    role: Type.Literal('assistant'),
    status,
    content: Type.Array(
      Type.Object({
        type: Type.Literal('output_text'),
        text: Type.String(),
        annotations: Type.Array(Type.Unknown()),
        logprobs: Type.Array(Type.Object({ ...logprob, top_logprobs: Type.Array(Type.Object(logprob)) })),
      }),
    ),
  },
  { $id: 'ResponseOutputMessage', description: 'Words of the model.' },
);

export const ResponseFunctionCall = Type.Object(
  {
    id: Type.String(),
    type: Type.Literal('function_call'),
    call_id: Type.String({ description: 'To be given with what the function says.' }),
    name: Type.String(),
    arguments: Type.String({ description: 'JSON, as the model wrote it.' }),
    status,
  },
  { $id: 'ResponseFunctionCall', description: 'A function that the model asks the client to call.' },
);

/** As `input_items` lists it. */
export const ResponseItem = Type.Object(
  {
    id: Type.String(),
    type: Choice(['message', 'function_call', 'function_call_output']),
    role: Type.Optional(Type.String()),
    status: Type.Optional(Type.String()),
    content: Type.Optional(
      Type.Array(Type.Object({ type: Type.String(), text: Type.Optional(Type.String()) })),
    ),
    call_id: Type.Optional(Type.String()),
    name: Type.Optional(Type.String()),
    arguments: Type.Optional(Type.String()),
    output: Type.Optional(Type.String()),
  },
  { $id: 'ResponseItem', description: 'An item of the input.' },
);
export type KeptItem = Record<string, unknown> & { id: string; type: string };

/** Items with ids, in their long form. Throws for what is not served. */
export function readItems(input: string | readonly InputItem[] | null | undefined): KeptItem[] {
  if (input === null || input === undefined) return [];
  if (typeof input === 'string') return [readItem({ role: 'user', content: input }, 'input')];
  return input.filter(item => item.type !== 'reasoning').map((item, i) => readItem(item, `input[${i}]`));
}

function readItem(item: InputItem, at: string): KeptItem {
  const read = itemReaders[item.type ?? 'message'];
  if (read) return read(item, at);
  throw new ApiError(
    'unsupported_value',
    `Invalid value: '${at}' is of type '${item.type}'. Supported are: ${Object.keys(itemReaders).join(', ')}.`,
    { param: at },
  );
}

const itemReaders: Readonly<Record<string, (item: InputItem, at: string) => KeptItem>> = {
  message(item, at) {
    const { role, content } = item;
    const written = required(content, `${at}.content`);
    const type = required(role, `${at}.role`) === 'assistant' ? 'output_text' : 'input_text';
    const texts =
      typeof written === 'string'
        ? [written]
        : written.map((part, i) => partText(part, `${at}.content[${i}]`));
    const parts = texts.map(text =>
      type === 'output_text' ? { type, text, annotations: [], logprobs: [] } : { type, text },
    );
    return { id: item.id ?? newId('message'), type: 'message', role, status: 'completed', content: parts };
  },
  function_call: (item, at) => ({
    id: item.id ?? newId('functionCall'),
    type: 'function_call',
    call_id: required(item.call_id, `${at}.call_id`),
    name: required(item.name, `${at}.name`),
    arguments: required(item.arguments, `${at}.arguments`),
    status: 'completed',
  }),
  function_call_output(item, at) {
    const written = required(item.output, `${at}.output`);
    const texts =
      typeof written === 'string'
        ? [written]
        : written.map((part, i) => partText(part, `${at}.output[${i}]`));
    return {
      id: item.id ?? newId('functionCallOutput'),
      type: 'function_call_output',
      call_id: required(item.call_id, `${at}.call_id`),
      output: texts.join('\n'),
      status: 'completed',
    };
  },
};

function required<Value>(value: Value | null | undefined, param: string): Value {
  if (value !== null && value !== undefined) return value;
  throw new ApiError('missing_required_parameter', `Missing required parameter: '${param}'.`, { param });
}

function partText(part: Static<typeof Part>, param: string): string {
  const served = ['input_text', 'output_text', 'text'].includes(part.type)
    ? part.text
    : part.type === 'refusal'
      ? part.refusal
      : undefined;
  if (served !== undefined) return served;
  const message = `Invalid value: '${param}' is of type '${part.type}'. Supported are: 'input_text', 'output_text'.`;
  throw new ApiError('unsupported_value', message, { param });
}

/** Calls go with the message of the assistant before them. Throws for what a function said that was not called. */
export function toMessages(items: readonly KeptItem[], instructions: string | null): Message[] {
  const messages: Message[] = instructions ? [{ role: 'system', content: instructions }] : [];
  for (const item of items) {
    if (item.type === 'message') messages.push({ role: item.role as Message['role'], content: textOf(item) });
    else if (item.type === 'function_call') addCall(messages, item);
    else messages.push(outputMessage(messages, item));
  }
  return messages;
}

const textOf = ({ content }: KeptItem): string =>
  (content as { text: string }[]).map(({ text }) => text).join('\n');

function addCall(messages: Message[], { call_id, name, arguments: text }: KeptItem): void {
  const call = { id: call_id, type: 'function', function: { name, arguments: text } } as ToolCall;
  const last = messages.at(-1);
  if (last?.role === 'assistant') last.tool_calls = [...(last.tool_calls ?? []), call];
  else messages.push({ role: 'assistant', content: null, tool_calls: [call] });
}

function outputMessage(messages: readonly Message[], { call_id, output }: KeptItem): Message {
  const called = messages.some(({ tool_calls }) => tool_calls?.some(({ id }) => id === call_id));
  if (called) return { role: 'tool', tool_call_id: String(call_id), content: String(output) };
  throw new ApiError(
    'invalid_value',
    `No tool call found for function call output with call_id ${call_id}.`,
    {
      param: 'input',
    },
  );
}
