// Stored chat completions: list, retrieve, update, delete, list messages. They are created by chat-completions.ts.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import type { ChatCompletionBody } from '../schemas/chat-completions.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import {
  CompletionId,
  exampleMessage,
  exampleStoredCompletion,
  ListCompletionsQuery,
  ListMessagesQuery,
  messagesToWire,
  storedCompletionToWire,
  type UpdateCompletionBody,
} from '../schemas/stored-completions.ts';
import * as store from '../store/chat-completions.ts';
import { pageOf } from '../store/pages.ts';

const tags = ['Chat'];
const one = json('The answer.', Type.Ref('ChatCompletion'), exampleStoredCompletion);

export function storedCompletionRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Querystring: ListCompletionsQuery }>(
    '/v1/chat/completions',
    {
      schema: {
        operationId: 'listChatCompletions',
        tags,
        summary: 'List stored chat completions',
        description: 'Chat completions created with `store: true`.',
        querystring: ListCompletionsQuery,
        response: {
          200: json(
            'A page of chat completions.',
            Type.Ref('ListChatCompletionsResponse'),
            exampleList(exampleStoredCompletion),
          ),
          ...errorResponses(),
        },
      },
    },
    async request => {
      const filter = { projectId: request.caller.projectId, ...request.query };
      return toWireList(await store.listCompletions(deps.pool, filter), storedCompletionToWire);
    },
  );

  app.get<{ Params: CompletionId }>(
    '/v1/chat/completions/:completion_id',
    {
      schema: {
        operationId: 'getChatCompletion',
        tags,
        summary: 'Retrieve a stored chat completion',
        description: 'A stored chat completion with its metadata and request parameters.',
        params: CompletionId,
        response: { 200: one, ...errorResponses(404) },
      },
    },
    async request => storedCompletionToWire(await find(deps, request)),
  );

  app.post<{ Params: CompletionId; Body: UpdateCompletionBody }>(
    '/v1/chat/completions/:completion_id',
    {
      schema: {
        operationId: 'updateChatCompletion',
        tags,
        summary: 'Update a stored chat completion',
        description: 'Replaces the metadata.',
        params: CompletionId,
        body: Type.Ref('UpdateChatCompletionRequest'),
        response: { 200: one, ...errorResponses(404) },
      },
    },
    async request => {
      const { completion_id: id } = request.params;
      const { projectId } = request.caller;
      const updated = await store.setCompletionMetadata(deps.pool, projectId, id, request.body.metadata);
      if (!updated) throw noSuchCompletion(id);
      return storedCompletionToWire(updated);
    },
  );

  app.delete<{ Params: CompletionId }>(
    '/v1/chat/completions/:completion_id',
    {
      schema: {
        operationId: 'deleteChatCompletion',
        tags,
        summary: 'Delete a stored chat completion',
        description: 'Deletes the chat completion and its messages.',
        params: CompletionId,
        response: {
          200: json('The deleted object.', Type.Ref('DeleteChatCompletionResponse'), {
            id: exampleStoredCompletion.id,
            object: 'chat.completion.deleted',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { completion_id: id } = request.params;
      if (!(await store.deleteCompletion(deps.pool, request.caller.projectId, id)))
        throw noSuchCompletion(id);
      return { id, object: 'chat.completion.deleted', deleted: true };
    },
  );

  app.get<{ Params: CompletionId; Querystring: ListMessagesQuery }>(
    '/v1/chat/completions/:completion_id/messages',
    {
      schema: {
        operationId: 'getChatCompletionMessages',
        tags,
        summary: 'List messages of a stored chat completion',
        description: 'Messages of the request.',
        params: CompletionId,
        querystring: ListMessagesQuery,
        response: {
          200: json('A page of messages.', Type.Ref('ListChatMessagesResponse'), exampleList(exampleMessage)),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const messages = messagesToWire(await find(deps, request));
      return toWireList(pageOf(messages, request.query), row => row);
    },
  );
}

async function find(
  deps: Deps,
  request: FastifyRequest<{ Params: CompletionId }>,
): Promise<store.StoredCompletion> {
  const { completion_id: id } = request.params;
  const found = await store.findCompletion(deps.pool, request.caller.projectId, id);
  if (!found) throw noSuchCompletion(id);
  return found;
}

const noSuchCompletion = (id: string): ApiError =>
  new ApiError('not_found', `Completion '${id}' not found`, { param: 'completion_id' });

/** Stores a completion if its request asks for it. Returns the response body. */
export async function keepCompletion<Completion extends { id: string; model: string }>(
  deps: Deps,
  request: FastifyRequest<{ Body: ChatCompletionBody }>,
  completion: Completion,
): Promise<Completion & { metadata?: Record<string, string> }> {
  const { body, caller } = request;
  if (!body.store) return completion;
  const metadata = body.metadata ?? {};
  await store.insertCompletion(deps.pool, {
    id: completion.id,
    projectId: caller.projectId,
    model: completion.model,
    metadata,
    messages: body.messages,
    completion: { ...completion, request_id: request.id, ...askedWith(body) },
  });
  return { ...completion, metadata };
}

const askedWith = (body: ChatCompletionBody) => ({
  temperature: body.temperature ?? 1,
  top_p: body.top_p ?? 1,
  presence_penalty: body.presence_penalty ?? 0,
  frequency_penalty: body.frequency_penalty ?? 0,
  seed: body.seed ?? null,
  tools: body.tools ?? null,
  tool_choice: body.tool_choice ?? null,
  response_format: body.response_format ?? null,
  input_user: body.user ?? null,
});
