// POST /v1/completions: continues texts, as a whole or as a stream; also scores given texts by their log-probabilities.

import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import { estimateTokens } from '../metering/admission.ts';
import {
  type CompletionBody,
  completionLogprobsToWire,
  exampleCompletion,
  unservedCompletionParameters,
} from '../schemas/completions.ts';
import { refuseUnserved, usageToWire, wholeOrStream } from '../schemas/generation.ts';
import { unixSeconds } from '../schemas/lists.ts';
import type { GenerationEvent, GenerationParameters, Prompt } from '../serving/protocol.ts';
import { addToAnswer, answerOf, emptyAnswer } from './answer.ts';
import {
  endOf,
  findTarget,
  mergeEvents,
  readBeams,
  readSampling,
  readStop,
  sendStream,
} from './generation.ts';
import { admit } from './metering.ts';

const DEFAULT_MAX_TOKENS = 16;

export function completionRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: CompletionBody }>(
    '/v1/completions',
    {
      schema: {
        operationId: 'createCompletion',
        tags: ['Completions'],
        summary: 'Create a completion',
        description:
          'Continues a prompt. With `echo`, `logprobs` and `max_tokens: 0`: the log-probabilities of the prompt.',
        body: Type.Ref('CreateCompletionRequest'),
        response: wholeOrStream(
          'The text, or the stream.',
          Type.Ref('Completion'),
          exampleCompletion,
          Type.Ref('Completion'),
        ),
      },
    },
    async (request, reply) => {
      const { body } = request;
      const prompts = readPrompts(body.prompt);
      const parameters = readParameters(body);
      const { model, fingerprint } = await findTarget(deps, request.caller.projectId, body.model);
      const envelope = {
        id: newId('completion'),
        object: 'text_completion' as const,
        created: unixSeconds(new Date()),
        model: body.model,
        system_fingerprint: fingerprint,
      };
      const signal = endOf(app, reply);
      const generations = prompts.map(prompt =>
        deps.generation.generate(model, { ...parameters, prompt }, signal),
      );
      const meter = await admit(deps, request, reply, {
        kind: 'completions',
        model: body.model,
        estimateTokens: () =>
          estimateTokens(prompts, parameters.maxTokens, prompts.length * parameters.bestOf),
      });
      const events = meter.follow(mergeEvents(generations, parameters.n));
      if (!body.stream) return answer(events, body, prompts.length * parameters.n, envelope, signal);
      return sendStream(reply, toChunks(events, body, envelope), signal);
    },
  );
}

function readPrompts(prompt: CompletionBody['prompt']): Prompt[] {
  if (prompt === null || prompt === undefined) return [{ kind: 'text', text: '' }];
  if (typeof prompt === 'string') return [{ kind: 'text', text: prompt }];
  if (typeof prompt[0] === 'number') return [{ kind: 'tokens', tokens: prompt as number[] }];
  return (prompt as (string | number[])[]).map(each =>
    typeof each === 'string' ? { kind: 'text', text: each } : { kind: 'tokens', tokens: each },
  );
}

/** Throws for mistakes that the schema does not cover. */
function readParameters(body: CompletionBody): Omit<GenerationParameters, 'prompt'> {
  refuseUnserved(body, unservedCompletionParameters);
  const n = body.n ?? 1;
  const bestOf = body.best_of || n;
  if (bestOf < n)
    throw new ApiError('invalid_value', `'best_of' must be at least 'n' (${n}), but got ${bestOf}.`, {
      param: 'best_of',
    });
  if (body.stream && bestOf > n)
    throw new ApiError('invalid_value', "Results of 'best_of' cannot be streamed.", { param: 'best_of' });
  return {
    n,
    bestOf,
    maxTokens: body.max_tokens ?? DEFAULT_MAX_TOKENS,
    sampling: readSampling(body),
    beams: readBeams(body),
    stop: readStop(body),
    form: null,
    topLogprobs: body.logprobs ?? null,
    echo: body.echo === true,
    stream: body.stream === true,
  };
}

type Envelope = Record<'id' | 'object' | 'model' | 'system_fingerprint', string> & { created: number };

const isAsked = ({ logprobs }: CompletionBody): boolean => logprobs !== null && logprobs !== undefined;

async function answer(
  events: AsyncIterable<GenerationEvent>,
  body: CompletionBody,
  count: number,
  envelope: Envelope,
  signal: AbortSignal,
) {
  const { choices, usage } = await answerOf(events, count, signal);
  return {
    ...envelope,
    choices: choices.map(({ text, tokens, finishReason }, index) => ({
      index,
      text,
      logprobs: completionLogprobsToWire(isAsked(body), tokens),
      finish_reason: finishReason,
    })),
    usage: usageToWire(usage),
  };
}

async function* toChunks(
  events: AsyncIterable<GenerationEvent>,
  body: CompletionBody,
  envelope: Envelope,
): AsyncGenerator<object> {
  const includeUsage = body.stream_options?.include_usage === true;
  const asked = isAsked(body);
  const answer = emptyAnswer(0);
  const chunk = (choices: object[], wire: object | null = null) => ({
    ...envelope,
    choices,
    ...(includeUsage ? { usage: wire } : {}),
  });
  for await (const event of events) {
    if (event.type === 'piece') {
      const logprobs = completionLogprobsToWire(asked, event.tokens);
      yield chunk([{ index: event.choice, text: event.text, logprobs, finish_reason: null }]);
    } else if (event.type === 'finished')
      yield chunk([{ index: event.choice, text: '', logprobs: null, finish_reason: event.finishReason }]);
    else if (event.type === 'done') addToAnswer(answer, event);
  }
  if (includeUsage) yield chunk([], usageToWire(answer.usage));
}
