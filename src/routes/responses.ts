// /v1/responses: create (as a whole, streamed, or in the background), retrieve, cancel, delete, list input items.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import { estimateTokens } from '../metering/admission.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList, unixSeconds } from '../schemas/lists.ts';
import { type KeptItem, readItems, toMessages } from '../schemas/response-items.ts';
import {
  asksLogprobs,
  checkResponseBody,
  exampleResponse,
  ListInputItemsQuery,
  newWireResponse,
  type ResponseBody,
  ResponseId,
  RetrieveResponseQuery,
  readResponseForm,
  responseOrStream,
  type WireResponse,
} from '../schemas/responses.ts';
import type { TargetModel } from '../serving/client.ts';
import type { GenerationEvent, GenerationParameters } from '../serving/protocol.ts';
import { pageOf } from '../store/pages.ts';
import * as store from '../store/responses.ts';
import { asEnded, endOf, findTarget, NAMED_EVENTS, readSampling, sendStream } from './generation.ts';
import { admit } from './metering.ts';
import { markFailed, type ResponseEvent, toResponseEvents } from './response-events.ts';

const tags = ['Responses'];
const one = json('The response.', Type.Ref('Response'), exampleResponse);
/** Interval for renewing the lease of a background response, and for noticing its cancellation. */
const HEARTBEAT_MS = 2000;

export function responseRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: ResponseBody }>(
    '/v1/responses',
    {
      schema: {
        operationId: 'createResponse',
        tags,
        summary: 'Create a response',
        description:
          "Answers a text or a list of items with the model's chat template: at once, as a stream, or in the background.",
        body: Type.Ref('CreateResponseRequest'),
        response: responseOrStream,
      },
    },
    async (request, reply) => {
      checkResponseBody(request.body);
      const asked = await readAsked(deps, request);
      if (request.body.background) return runInBackground(app, deps, request, reply, asked);
      const signal = endOf(app, reply);
      const events = keptEvents(deps, await generate(deps, request, reply, asked, signal), asked);
      if (request.body.stream) return sendStream(reply, events, signal, NAMED_EVENTS);
      return drain(events, asked.response, signal);
    },
  );

  app.get<{ Params: ResponseId; Querystring: RetrieveResponseQuery }>(
    '/v1/responses/:response_id',
    {
      schema: {
        operationId: 'getResponse',
        tags,
        summary: 'Retrieve a response',
        description: 'The current state of a stored response.',
        params: ResponseId,
        querystring: RetrieveResponseQuery,
        response: { 200: one, ...errorResponses(404) },
      },
    },
    async request => {
      if (request.query.stream)
        throw new ApiError(
          'unsupported_value',
          'A stored response cannot be streamed: read it without stream=true.',
          {
            param: 'stream',
          },
        );
      return (await find(deps, request)).response;
    },
  );

  app.delete<{ Params: ResponseId }>(
    '/v1/responses/:response_id',
    {
      schema: {
        operationId: 'deleteResponse',
        tags,
        summary: 'Delete a response',
        description: 'Deletes the response. Responses that continue it can no longer be continued.',
        params: ResponseId,
        response: {
          200: json('The deleted object.', Type.Ref('DeleteResponseResponse'), {
            id: exampleResponse.id,
            object: 'response',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { response_id: id } = request.params;
      if (!(await store.deleteResponse(deps.pool, request.caller.projectId, id))) throw noSuchResponse(id);
      return { id, object: 'response', deleted: true };
    },
  );

  app.post<{ Params: ResponseId }>(
    '/v1/responses/:response_id/cancel',
    {
      schema: {
        operationId: 'cancelResponse',
        tags,
        summary: 'Cancel a background response',
        description: 'Keeps what has been generated. A response that has ended is unchanged.',
        params: ResponseId,
        response: { 200: one, ...errorResponses(404) },
      },
    },
    async request => {
      const { id, background, response } = await find(deps, request);
      if (!background)
        throw new ApiError('invalid_value', 'Only responses in the background can be cancelled.', {
          param: 'response_id',
        });
      await store.writeResponse(deps.pool, id, 'cancelled', { ...response, status: 'cancelled' });
      return (await find(deps, request)).response;
    },
  );

  app.get<{ Params: ResponseId; Querystring: ListInputItemsQuery }>(
    '/v1/responses/:response_id/input_items',
    {
      schema: {
        operationId: 'listInputItems',
        tags,
        summary: 'List input items',
        description: "Items of this response's own request, without those of previous responses.",
        params: ResponseId,
        querystring: ListInputItemsQuery,
        response: {
          200: json('A page of items.', Type.Ref('ListResponseItemsResponse'), exampleList(exampleItem)),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { input } = await find(deps, request);
      return toWireList(pageOf(input as KeptItem[], request.query), row => row);
    },
  );
}

const exampleItem = {
  id: 'msg_Abc123Abc123Abc123Abc123',
  type: 'message',
  role: 'user',
  status: 'completed',
  content: [{ type: 'input_text', text: 'My parcel came broken.' }],
};

const noSuchResponse = (id: string): ApiError =>
  new ApiError('not_found', `Response with id '${id}' not found.`, { param: 'response_id' });

async function find(
  deps: Deps,
  request: FastifyRequest<{ Params: ResponseId }>,
): Promise<store.StoredResponse> {
  const { response_id: id } = request.params;
  const found = await store.findResponse(deps.pool, request.caller.projectId, id);
  if (!found) throw noSuchResponse(id);
  if (!found.lost) return found;
  // Its api process has died, so the failure is recorded here.
  const response = found.response as unknown as WireResponse;
  markFailed(response);
  await writeEnd(deps, response);
  return found;
}

// ---- create

interface Asked {
  projectId: string;
  model: TargetModel;
  previousId: string | null;
  /** Input items of this request. */
  input: KeptItem[];
  parameters: GenerationParameters;
  response: WireResponse;
  kept: boolean;
}

/** Throws for mistakes that the schema does not cover. */
async function readAsked(
  deps: Deps,
  { body, caller }: FastifyRequest<{ Body: ResponseBody }>,
): Promise<Asked> {
  const input = readItems(body.input);
  const previousId = body.previous_response_id ?? null;
  const before = previousId === null ? [] : await readBefore(deps, caller.projectId, previousId);
  const messages = toMessages([...before, ...input], body.instructions ?? null);
  if (messages.length === 0)
    throw new ApiError('missing_required_parameter', "Missing required parameter: 'input'.", {
      param: 'input',
    });
  const { tools, form } = readResponseForm(body);
  const { model } = await findTarget(deps, caller.projectId, body.model);
  return {
    projectId: caller.projectId,
    model,
    previousId,
    input,
    response: newWireResponse(body, newId('response'), unixSeconds(new Date())),
    kept: body.store !== false,
    parameters: {
      prompt: { kind: 'chat', messages, tools, param: 'input', truncate: body.truncation === 'auto' },
      form,
      n: 1,
      bestOf: 1,
      maxTokens: body.max_output_tokens ?? null,
      sampling: readSampling({ temperature: body.temperature, top_p: body.top_p }),
      stop: [],
      topLogprobs: asksLogprobs(body) ? (body.top_logprobs ?? 0) : null,
      echo: false,
      stream: body.stream === true,
    },
  };
}

async function readBefore(deps: Deps, projectId: string, previousId: string): Promise<KeptItem[]> {
  const items = await store.readConversation(deps.pool, projectId, previousId);
  if (items) return items as KeptItem[];
  throw new ApiError('invalid_value', `Previous response with id '${previousId}' not found.`, {
    param: 'previous_response_id',
  });
}

async function generate(
  deps: Deps,
  request: FastifyRequest<{ Body: ResponseBody }>,
  reply: FastifyReply,
  { parameters, model }: Asked,
  signal: AbortSignal,
  until?: Promise<unknown>,
): Promise<AsyncIterable<GenerationEvent>> {
  const meter = await admit(deps, request, reply, {
    kind: 'completions',
    model: request.body.model,
    estimateTokens: () => estimateTokens(parameters.prompt, parameters.maxTokens),
    until,
  });
  return meter.follow(deps.generation.generate(model, parameters, signal));
}

const ENDS = ['completed', 'incomplete', 'failed'];

/** The events; stores the response before the last one is yielded. */
async function* keptEvents(
  deps: Deps,
  events: AsyncIterable<GenerationEvent>,
  asked: Asked,
): AsyncGenerator<ResponseEvent> {
  for await (const event of toResponseEvents(events, asked.response)) {
    if (asked.kept && ENDS.includes(asked.response.status) && 'response' in event) await keep(deps, asked);
    yield event;
  }
}

const keep = (deps: Deps, { projectId, previousId, input, response }: Asked): Promise<void> =>
  store.insertResponse(deps.pool, {
    id: response.id,
    projectId,
    previousId,
    status: response.status,
    background: response.background === true,
    input,
    response,
  });

async function drain(
  events: AsyncIterable<unknown>,
  response: WireResponse,
  signal: AbortSignal,
): Promise<WireResponse> {
  try {
    for await (const _ of events);
  } catch (error) {
    throw asEnded(error, signal);
  }
  return response;
}

// ---- in the background

/** Returns as soon as the response is stored. Generation continues in this process, which renews the response's lease. */
async function runInBackground(
  app: FastifyInstance,
  deps: Deps,
  request: FastifyRequest<{ Body: ResponseBody }>,
  reply: FastifyReply,
  asked: Asked,
): Promise<WireResponse> {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, app.closing]);
  const ended = Promise.withResolvers<void>();
  const events = await generate(deps, request, reply, asked, signal, ended.promise);
  await keep(deps, asked);
  const answer = structuredClone(asked.response);
  void follow(deps, events, asked, stop)
    .catch(error => request.log.error({ err: error }, 'a response in the background broke off'))
    .finally(ended.resolve);
  return answer;
}

async function follow(
  deps: Deps,
  events: AsyncIterable<GenerationEvent>,
  { response }: Asked,
  stop: AbortController,
): Promise<void> {
  const heartbeat = setInterval(() => {
    store.keepResponseLease(deps.pool, response.id).then(
      wanted => wanted || stop.abort(new Error('the response was cancelled')),
      () => undefined, // a database that is away for a moment takes nothing from it
    );
  }, HEARTBEAT_MS);
  try {
    for await (const { type } of toResponseEvents(events, response))
      if (type === 'response.in_progress') await writeEnd(deps, response);
  } catch (error) {
    const { message } =
      error instanceof ApiError
        ? error
        : { message: 'The server had an error while processing your request.' };
    Object.assign(response, { status: 'failed', error: { code: 'server_error', message } });
  } finally {
    clearInterval(heartbeat);
    await writeEnd(deps, response);
  }
}

/** Does nothing if the response was cancelled or deleted meanwhile. */
const writeEnd = (deps: Deps, response: WireResponse): Promise<boolean> =>
  store.writeResponse(deps.pool, response.id, response.status, response);
