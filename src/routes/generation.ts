// Shared by the inference routes: finding the model, sampling parameters, cancellation, server-sent events. No route.
import { randomInt } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError, toWire } from '../errors.ts';
import { refuseUnserved, type SamplingBody, type UnservedTable } from '../schemas/generation.ts';
import type { BeamOptions } from '../serving/beams.ts';
import type { GenerationEvent } from '../serving/protocol.ts';
import type { Sampling } from '../serving/sampling.ts';
import { readTarget, type Target } from '../serving/target.ts';
import { unusableModel } from './models.ts';

const SEED_END = 2 ** 32;

/** The model of a request with its files; throws when it does not exist or is not available to the project. */
export async function findTarget(deps: Deps, projectId: string, id: string): Promise<Target> {
  const target = await readTarget(deps.pool, projectId, id);
  if (!target) throw await unusableModel(deps, projectId, id);
  return target;
}

export function readSampling(body: SamplingBody): Sampling {
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    seed: body.seed === null || body.seed === undefined ? randomInt(SEED_END) : toSeed(body.seed),
    frequencyPenalty: body.frequency_penalty ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    logitBias: readBias(body.logit_bias ?? {}),
  };
}

/** Maps any integer to 32 bits; -1 and 1 give different seeds. */
const toSeed = (seed: number): number => ((seed % SEED_END) + SEED_END) % SEED_END;

function readBias(bias: Record<string, number>): Record<number, number> {
  const wrong = Object.keys(bias).find(token => !/^\d+$/.test(token));
  if (wrong === undefined) return bias;
  throw new ApiError(
    'invalid_value',
    `Invalid key in 'logit_bias': '${wrong}'. Expected the id of a token.`,
    {
      param: 'logit_bias',
    },
  );
}

const isEmpty = (value: unknown): boolean => Object.keys(value as object).length === 0;

/** Parameters that beam search does not support, with the values that have no effect and are accepted. */
const UNSERVED_WITH_BEAMS: UnservedTable = {
  stream: value => value === false,
  temperature: value => value === 0,
  top_p: value => value === 1,
  frequency_penalty: value => value === 0,
  presence_penalty: value => value === 0,
  logit_bias: isEmpty,
  tools: isEmpty,
  functions: isEmpty,
  response_format: value => (value as { type?: unknown }).type === 'text',
  best_of: value => value === 0 || value === 1,
};

/** Null without beam search. Throws for parameters that cannot be combined with it. */
export function readBeams(body: SamplingBody): BeamOptions | null {
  const beams = body.num_beams ?? 1;
  if (beams === 1) {
    refuseUnserved(body, { length_penalty: () => false, early_stopping: () => false }, "'num_beams' 1");
    return null;
  }
  refuseUnserved(body, UNSERVED_WITH_BEAMS, "'num_beams' above 1");
  if ((body.n ?? 1) > beams)
    throw new ApiError('invalid_value', `'n' must be at most 'num_beams' (${beams}), but got ${body.n}.`, {
      param: 'n',
    });
  return {
    beams,
    lengthPenalty: body.length_penalty ?? 1,
    earlyStopping: body.early_stopping ?? false,
  };
}

export const readStop = ({ stop }: SamplingBody): string[] =>
  (typeof stop === 'string' ? [stop] : (stop ?? [])).filter(text => text !== '');

/**
 * A signal that is aborted when the client disconnects or the service stops. Throws if the client has already disconnected: under load,
 * clients time out before their requests are handled, and these must not cost work.
 */
export function endOf(app: FastifyInstance, reply: FastifyReply): AbortSignal {
  // only seen in the log
  const left = () => new ApiError('client_closed_request', 'The client has gone away.');
  if (reply.raw.closed) throw left();
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort(left()));
  return AbortSignal.any([gone.signal, app.closing]);
}

/** The error to respond with: a 503 if the generation failed because the service is stopping. */
export function asEnded(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted || error instanceof ApiError) return error;
  return new ApiError('server_is_overloaded', 'The server is shutting down.', { retryAfterSeconds: 2 });
}

/** Sends server-sent events. An error before the first event is an ordinary error response, a later one is sent as an event. */
export async function sendStream(
  reply: FastifyReply,
  events: AsyncGenerator<object>,
  signal: AbortSignal,
  format: EventFormat = DATA_ONLY,
): Promise<FastifyReply> {
  const first = await events.next().catch(error => {
    throw asEnded(error, signal);
  });
  reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no').type('text/event-stream');
  return reply.send(Readable.from(writeEvents(reply, first, events, signal, format), { objectMode: false }));
}

/** Encoding of events. */
export interface EventFormat {
  write(event: object): string;
  fail(error: ApiError): string;
  end: string;
}

const line = (data: object): string => `data: ${JSON.stringify(data)}\n\n`;
const DATA_ONLY: EventFormat = { write: line, fail: error => line(toWire(error)), end: 'data: [DONE]\n\n' };

/** With an `event:` line, as in the Responses API. */
export const NAMED_EVENTS: EventFormat = {
  write: event => `event: ${(event as { type: string }).type}\n${line(event)}`,
  fail(error) {
    const { message, param, code } = toWire(error).error;
    return `event: error\n${line({ type: 'error', code, message, param, sequence_number: 0 })}`;
  },
  end: '',
};

async function* writeEvents(
  reply: FastifyReply,
  first: IteratorResult<object>,
  events: AsyncGenerator<object>,
  signal: AbortSignal,
  format: EventFormat,
): AsyncGenerator<string> {
  try {
    if (!first.done) yield format.write(first.value);
    for await (const event of events) yield format.write(event);
    yield format.end;
  } catch (thrown) {
    const error = asEnded(thrown, signal);
    if (!(error instanceof ApiError)) reply.log.error({ err: error }, 'a stream broke off');
    const known =
      error instanceof ApiError
        ? error
        : new ApiError('server_error', 'The server had an error while processing your request.');
    yield format.fail(known);
  }
}

/**
 * Merges the events of several generations; choices are numbered consecutively. Yields nothing before all of them have started, so that
 * one rejected prompt fails the whole request.
 */
export async function* mergeEvents(
  generations: readonly AsyncIterable<GenerationEvent>[],
  choicesEach: number,
): AsyncGenerator<GenerationEvent> {
  const iterators = generations.map(generation => generation[Symbol.asyncIterator]());
  const next = async (index: number) => ({ index, result: await iterators[index]!.next() });
  const starting = iterators.map((_, index) => next(index));
  const waiting = new Map(starting.entries());
  try {
    await Promise.all(starting);
    while (waiting.size > 0) {
      const { index, result } = await Promise.race(waiting.values());
      if (result.done) waiting.delete(index);
      else {
        waiting.set(index, next(index));
        const event = result.value;
        yield 'choice' in event ? { ...event, choice: event.choice + index * choicesEach } : event;
      }
    }
  } finally {
    for (const pending of waiting.values()) pending.catch(() => undefined);
    await Promise.allSettled(iterators.map(iterator => iterator.return?.()));
  }
}
