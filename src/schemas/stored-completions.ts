// API schemas of stored chat completions.
import { type Static, Type } from 'typebox';
import type { StoredCompletion } from '../store/chat-completions.ts';
import { exampleChatCompletion } from './chat-completions.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, type WithDefaults } from './lists.ts';
import { Metadata } from './metadata.ts';

export const CompletionId = Type.Object({
  completion_id: Type.String({ description: 'Id of the completion.', examples: ['chatcmpl-Abc123'] }),
});
export type CompletionId = Static<typeof CompletionId>;

const order = Type.Optional(
  Choice(['asc', 'desc'], { default: 'asc', description: 'Order by creation time.' }),
);

export const ListCompletionsQuery = Type.Object({
  model: Type.Optional(Type.String({ description: 'Only of this model.' })),
  metadata: Type.Optional(
    Type.Record(Type.String(), Type.String(), {
      description: '`metadata[key]=value`: only with all of these pairs.',
    }),
  ),
  limit: Limit(20, 100),
  order,
  after: After,
});
export type ListCompletionsQuery = WithDefaults<Static<typeof ListCompletionsQuery>, 'limit' | 'order'>;

export const ListMessagesQuery = Type.Object({ limit: Limit(20, 100), order, after: After });
export type ListMessagesQuery = WithDefaults<Static<typeof ListMessagesQuery>, 'limit' | 'order'>;

export const UpdateChatCompletionRequest = Type.Object(
  { metadata: Type.Union([Metadata, Type.Null()], { description: 'Replaces the previous metadata.' }) },
  {
    $id: 'UpdateChatCompletionRequest',
    additionalProperties: false,
    examples: [{ metadata: { team: 'support' } }],
    description: 'Changes to a stored answer.',
  },
);
export type UpdateCompletionBody = Static<typeof UpdateChatCompletionRequest>;

export const ListChatCompletionsResponse = ListOf(
  'ListChatCompletionsResponse',
  Type.Ref('ChatCompletion'),
  'A page of stored chat completions.',
);

export const StoredChatMessage = Type.Object(
  {
    id: Type.String(),
    role: Type.String(),
    content: Type.Union([Type.String(), Type.Null()]),
    content_parts: Type.Union([
      Type.Array(Type.Object({ type: Type.String(), text: Type.String() })),
      Type.Null(),
    ]),
    name: Type.Union([Type.String(), Type.Null()]),
    refusal: Type.Union([Type.String(), Type.Null()]),
    tool_calls: Type.Optional(Type.Array(Type.Unknown())),
    tool_call_id: Type.Optional(Type.String()),
  },
  { $id: 'StoredChatMessage', description: 'A message of a stored conversation.' },
);

export const ListChatMessagesResponse = ListOf(
  'ListChatMessagesResponse',
  Type.Ref('StoredChatMessage'),
  'A page of messages.',
);

export const DeleteChatCompletionResponse = Type.Object(
  { id: Type.String(), object: Type.Literal('chat.completion.deleted'), deleted: Type.Boolean() },
  { $id: 'DeleteChatCompletionResponse', description: 'The deleted object.' },
);

export const storedCompletionToWire = ({ id, metadata, completion }: StoredCompletion) => ({
  ...completion,
  id,
  metadata: metadata ?? {},
});

/** Ids are derived from the position: `{completion}-0` is the first. */
export function messagesToWire({ id, messages }: StoredCompletion) {
  return messages.map((message, index) => {
    const { content, tool_calls, tool_call_id } = message;
    const parts = Array.isArray(content) ? content : null;
    return {
      id: `${id}-${index}`,
      role: String(message.role),
      content: typeof content === 'string' ? content : null,
      content_parts: parts,
      name: (message.name as string | undefined) ?? null,
      refusal: (message.refusal as string | undefined) ?? null,
      ...(tool_calls ? { tool_calls } : {}),
      ...(tool_call_id ? { tool_call_id } : {}),
    };
  });
}

export const exampleStoredCompletion = {
  ...exampleChatCompletion,
  metadata: { team: 'support' },
  request_id: 'req_Abc123Abc123Abc123Abc123',
  temperature: 0,
  top_p: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  seed: null,
  tools: null,
  tool_choice: null,
  response_format: null,
  input_user: null,
};

export const exampleMessage = {
  id: 'chatcmpl-Abc123Abc123Abc123Abc123-0',
  role: 'user',
  content: 'My parcel came broken.',
  content_parts: null,
  name: null,
  refusal: null,
};
