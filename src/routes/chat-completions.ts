// POST /v1/chat/completions: a conversation answered, at once or as a stream.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import {
  type ChatCompletionBody,
  chatLogprobsToWire,
  exampleChatCompletion,
  readMessages,
  unservedChatParameters,
} from '../schemas/chat-completions.ts';
import { refuseUnserved, type Usage, usageToWire, wholeOrStream } from '../schemas/generation.ts';
import { unixSeconds } from '../schemas/lists.ts';
import type { GenerationEvent, GenerationParameters, TokenPiece } from '../serving/protocol.ts';
import { asEnded, endOf, findTarget, readSampling, readStop, sendStream } from './generation.ts';

export function chatCompletionRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: ChatCompletionBody }>(
    '/v1/chat/completions',
    {
      schema: {
        operationId: 'createChatCompletion',
        tags: ['Chat'],
        summary: 'Answer a conversation',
        description: "The next message of a conversation, in the form of the model's chat template.",
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
      const events = deps.generation.generate(model, parameters, signal);
      if (!body.stream) return answer(events, body, envelope, signal);
      return sendStream(reply, toChunks(events, body, envelope), signal);
    },
  );
}

/** Throws what is wrong with the request beyond its shape. */
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
  return {
    prompt: { kind: 'chat', messages: readMessages(body), tools: null },
    n,
    bestOf: n,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    sampling: readSampling(body),
    stop: readStop(body),
    topLogprobs: body.logprobs ? (body.top_logprobs ?? 0) : null,
    echo: false,
    stream: body.stream === true,
  };
}

type Envelope = Record<'id' | 'model' | 'service_tier' | 'system_fingerprint', string> & { created: number };

async function answer(
  events: AsyncIterable<GenerationEvent>,
  body: ChatCompletionBody,
  envelope: Envelope,
  signal: AbortSignal,
) {
  const choices = Array.from({ length: body.n ?? 1 }, () => ({
    text: '',
    tokens: [] as TokenPiece[],
    finishReason: 'stop',
  }));
  let usage: Usage = { promptTokens: 0, completionTokens: 0 };
  try {
    for await (const event of events) {
      if (event.type === 'piece') {
        choices[event.choice]!.text += event.text;
        choices[event.choice]!.tokens.push(...event.tokens);
      } else if (event.type === 'finished') choices[event.choice]!.finishReason = event.finishReason;
      else if (event.type === 'done') usage = event;
    }
  } catch (error) {
    throw asEnded(error, signal);
  }
  return {
    ...envelope,
    object: 'chat.completion',
    choices: choices.map(({ text, tokens, finishReason }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null, annotations: [] },
      logprobs: chatLogprobsToWire(body.logprobs === true, tokens),
      finish_reason: finishReason,
    })),
    usage: usageToWire(usage),
  };
}

/** A role for every choice, pieces, an end for every choice, and the usage where it is wanted. */
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
    else if (event.type === 'finished') yield choice(event.choice, {}, [], event.finishReason);
    else if (includeUsage) yield chunk([], usageToWire(event));
  }
}
