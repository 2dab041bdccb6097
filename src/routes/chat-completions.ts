// POST /v1/chat/completions: answers a conversation, as a whole or as a stream.

import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import { estimateTokens } from '../metering/admission.ts';
import {
  type ChatCompletionBody,
  chatLogprobsToWire,
  exampleChatCompletion,
  readForm,
  readMessages,
  unservedChatParameters,
} from '../schemas/chat-completions.ts';
import { refuseUnserved, usageToWire, wholeOrStream } from '../schemas/generation.ts';
import { unixSeconds } from '../schemas/lists.ts';
import type { FinishReason, GenerationEvent, GenerationParameters, TokenPiece } from '../serving/protocol.ts';
import { type Answer, type AnsweredChoice, answerOf, emptyAnswer, gather } from './answer.ts';
import { endOf, findTarget, readBeams, readSampling, readStop, sendStream } from './generation.ts';
import { admit } from './metering.ts';
import { keepCompletion } from './stored-completions.ts';

export function chatCompletionRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: ChatCompletionBody }>(
    '/v1/chat/completions',
    {
      schema: {
        operationId: 'createChatCompletion',
        tags: ['Chat'],
        summary: 'Create a chat completion',
        description: "Generates the next message of a conversation with the model's chat template.",
        body: Type.Ref('CreateChatCompletionRequest'),
        response: wholeOrStream(
          'The answer, or the stream.',
          Type.Ref('ChatCompletion'),
          exampleChatCompletion,
          Type.Ref('ChatCompletionChunk'),
        ),
      },
    },
    async (request, reply) => {
      const { body } = request;
      const parameters = readParameters(body);
      const { model, fingerprint } = await findTarget(deps, request.caller.projectId, body.model);
      const envelope = {
        id: newId('chatCompletion'),
        created: unixSeconds(new Date()),
        model: body.model,
        service_tier: 'default' as const,
        system_fingerprint: fingerprint,
      };
      const signal = endOf(app, reply);
      const meter = await admit(deps, request, reply, {
        kind: 'completions',
        model: body.model,
        estimateTokens: () => estimateTokens(body.messages, parameters.maxTokens, parameters.n),
      });
      const events = meter.follow(deps.generation.generate(model, parameters, signal));
      const keep = (answer: Answer) => keepCompletion(deps, request, toCompletion(answer, body, envelope));
      if (!body.stream) return keep(await answerOf(events, parameters.n, signal));
      const chunks = kept(events, parameters.n, keep, all => toChunks(all, body, envelope));
      return sendStream(reply, chunks, signal);
    },
  );
}

/** The streamed chunks; stores the answer before the stream ends. */
async function* kept(
  events: AsyncIterable<GenerationEvent>,
  choices: number,
  keep: (answer: Answer) => Promise<unknown>,
  toChunks: (events: AsyncIterable<GenerationEvent>) => AsyncGenerator<object>,
): AsyncGenerator<object> {
  const answer = emptyAnswer(choices);
  yield* toChunks(gather(events, answer));
  await keep(answer);
}

/** Throws for mistakes that the schema does not cover. */
function readParameters(body: ChatCompletionBody): GenerationParameters {
  refuseUnserved(body, unservedChatParameters);
  if (body.top_logprobs != null && !body.logprobs)
    throw new ApiError('invalid_value', "Invalid value for 'top_logprobs': it needs 'logprobs' to be true.", {
      param: 'top_logprobs',
    });
  if (body.max_tokens != null && body.max_completion_tokens != null)
    throw new ApiError(
      'invalid_value',
      "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
      { param: 'max_tokens' },
    );
  const n = body.n ?? 1;
  const { tools, form } = readForm(body);
  return {
    prompt: { kind: 'chat', messages: readMessages(body), tools },
    form,
    n,
    bestOf: n,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    sampling: readSampling(body),
    beams: readBeams(body),
    stop: readStop(body),
    topLogprobs: body.logprobs ? (body.top_logprobs ?? 0) : null,
    echo: false,
    stream: body.stream === true,
  };
}

type Envelope = Record<'id' | 'model' | 'service_tier' | 'system_fingerprint', string> & { created: number };

function toCompletion({ choices, usage }: Answer, body: ChatCompletionBody, envelope: Envelope) {
  return {
    ...envelope,
    object: 'chat.completion' as const,
    choices: choices.map((choice, index) => ({
      index,
      message: messageOf(choice, body),
      logprobs: chatLogprobsToWire(body.logprobs === true, choice.tokens),
      finish_reason: reasonOf(choice.finishReason, body),
    })),
    usage: usageToWire(usage),
  };
}

function messageOf({ text, calls }: AnsweredChoice, body: ChatCompletionBody) {
  const content = text === '' && calls.length > 0 ? null : text;
  const message = { role: 'assistant' as const, content, refusal: null, annotations: [] };
  if (calls.length === 0) return message;
  const called = calls.map(({ name, arguments: text }) => ({ name, arguments: text }));
  if (body.functions) return { ...message, function_call: called[0]! };
  const tool_calls = calls.map(({ id }, i) => ({ id, type: 'function' as const, function: called[i]! }));
  return { ...message, tool_calls };
}

const reasonOf = (reason: FinishReason, { functions }: ChatCompletionBody) =>
  reason === 'tool_calls' && functions ? 'function_call' : reason;

function callDelta(
  event: Extract<GenerationEvent, { type: 'call' }>,
  { functions }: ChatCompletionBody,
): object {
  const { index, id, name, arguments: text } = event;
  const called = { ...(name === null ? {} : { name }), arguments: text };
  if (functions) return { function_call: called };
  return { tool_calls: [{ index, ...(id === null ? {} : { id, type: 'function' }), function: called }] };
}

/** For each choice its role, text and calls, and its finish reason; then the usage if requested. */
async function* toChunks(
  events: AsyncIterable<GenerationEvent>,
  body: ChatCompletionBody,
  envelope: Envelope,
): AsyncGenerator<object> {
  const includeUsage = body.stream_options?.include_usage === true;
  const asked = body.logprobs === true;
  const chunk = (choices: object[], usage: object | null = null) => ({
    ...envelope,
    object: 'chat.completion.chunk',
    choices,
    ...(includeUsage ? { usage } : {}),
  });
  const choice = (
    index: number,
    delta: object,
    tokens: TokenPiece[] = [],
    finishReason: string | null = null,
  ) =>
    chunk([
      {
        index,
        delta,
        logprobs: tokens.length > 0 ? chatLogprobsToWire(asked, tokens) : null,
        finish_reason: finishReason,
      },
    ]);
  for await (const event of events) {
    if (event.type === 'started') {
      for (let index = 0; index < (body.n ?? 1); index++)
        yield choice(index, { role: 'assistant', content: '', refusal: null });
    } else if (event.type === 'piece') yield choice(event.choice, { content: event.text }, event.tokens);
    else if (event.type === 'call') yield choice(event.choice, callDelta(event, body));
    else if (event.type === 'finished')
      yield choice(event.choice, {}, [], reasonOf(event.finishReason, body));
    else if (includeUsage) yield chunk([], usageToWire(event));
  }
}
