// `Idempotency-Key` for POST routes whose response is not produced in one transaction (for those see idempotency.ts): hooks around the
// handler. The key is held, with a lease, while the request is handled; the response is then stored as it was sent, also a stream.
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { errorResponses } from '../schemas/errors.ts';
import * as store from '../store/idempotency.ts';
import { claimOf, IdempotencyHeaders, keyReused, REPLAYED } from './idempotency.ts';
import { type Sealing, seal, unseal } from './sealing.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route stores its response itself (idempotency.ts). */
    answersOnce?: boolean;
  }
  interface FastifyRequest {
    /** Set while the request holds its Idempotency-Key. */
    holding: Holding | null;
  }
}

interface Holding {
  hold: store.Hold;
  /** Timer that renews the hold. */
  beat: NodeJS.Timeout;
  settled: boolean;
}

/** Lease of a hold: a process that died loses its keys after this time. */
const HOLD_SECONDS = 30;
/** How long a repeated request waits for the response of the first one. */
const WAIT_MS = 30_000;
const LOOK_MS = 100;
const RETRY_AFTER_SECONDS = 2;
/** Longer responses are not stored: a repeated request is then handled again. */
const LONGEST_ANSWER = 4 * 2 ** 20;

/** Applies to all routes of `app` that are added afterwards. */
export function keepAnswers(app: FastifyInstance, deps: Deps): void {
  app.decorateRequest('holding', null);
  app.addHook('onRoute', describe);
  app.addHook('preHandler', async (request, reply) => {
    if (request.method !== 'POST' || request.routeOptions.config.answersOnce) return;
    const claim = claimOf(request, { keyId: callerKeyOf(request), body: request.body });
    if (!claim) return;
    const given = await holdOrWait(deps, request, claim);
    if (given) return replay(request, reply, claim, given);
  });
  app.addHook('onSend', async (request, reply, payload) => keep(deps, request, reply, payload));
}

/** Documents the header on every POST. */
function describe(route: RouteOptions): void {
  if (route.method !== 'POST' || !route.schema) return;
  route.schema.headers ??= IdempotencyHeaders;
  route.schema.response = { ...(route.schema.response as object), ...errorResponses(409) };
}

/** Part of the fingerprint, because a response can only be decrypted with the API key that it was encrypted with. */
function callerKeyOf(request: FastifyRequest): string {
  return request.caller?.keyId ?? request.adminKeyId;
}

// ---- before the handler

/** The stored response, if there is one. Null: this request now holds the key. */
async function holdOrWait(
  deps: Deps,
  request: FastifyRequest,
  claim: store.Claim,
): Promise<store.GivenAnswer | null> {
  const hold = { owner: claim.owner, key: claim.key, holder: randomUUID() };
  const deadline = Date.now() + WAIT_MS;
  while (!(await store.holdKey(deps.pool, { ...claim, ...hold, holdSeconds: HOLD_SECONDS }))) {
    const given = await store.findGivenAnswer(deps.pool, claim);
    if (given && given.fingerprint !== claim.fingerprint) throw keyReused(claim.key);
    if (given?.sealed) return given;
    if (Date.now() > deadline || request.raw.socket.destroyed) throw stillAnswering(claim.key);
    await sleep(LOOK_MS);
  }
  request.holding = { hold, beat: keepBeating(deps, hold), settled: false };
  return null;
}

function keepBeating({ pool, log }: Deps, hold: store.Hold): NodeJS.Timeout {
  const renew = () => {
    store.keepHolding(pool, hold, HOLD_SECONDS).catch(error => log.warn({ error }, 'an Idempotency-Key'));
  };
  return setInterval(renew, (HOLD_SECONDS * 1000) / 3).unref();
}

function stillAnswering(key: string): ApiError {
  const message = `The request with the Idempotency-Key '${key}' is still being answered; send it again in a moment.`;
  return new ApiError('idempotency_key_in_use', message, {
    param: 'Idempotency-Key',
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}

function replay(
  request: FastifyRequest,
  reply: FastifyReply,
  claim: store.Claim,
  { sealed, statusCode, contentType }: store.GivenAnswer,
): FastifyReply {
  reply.status(statusCode).header(REPLAYED, 'true').type(contentType!);
  return reply.send(unseal(sealed!, sealingOf(request, claim)));
}

function sealingOf(request: FastifyRequest, { owner, key }: store.KeyOwner): Sealing {
  const secret = request.headers.authorization!.replace(/^Bearer +/i, '').trim();
  return { secret, purpose: `answer to ${owner} ${key}` };
}

// ---- after the handler

async function keep(
  deps: Deps,
  request: FastifyRequest,
  reply: FastifyReply,
  payload: unknown,
): Promise<unknown> {
  const { holding } = request;
  if (!holding || holding.settled) return payload;
  if (reply.statusCode >= 300) await release(deps, request);
  else if (typeof payload === 'string') await write(deps, request, reply, payload);
  else if (payload instanceof Readable)
    return Readable.from(keepStream(deps, request, reply, payload), { objectMode: false });
  return payload;
}

/** Passes a stream on and stores it at its end. An interrupted stream is not stored. */
async function* keepStream(
  deps: Deps,
  request: FastifyRequest,
  reply: FastifyReply,
  stream: Readable,
): AsyncGenerator<Buffer | string> {
  const chunks: string[] = [];
  let length = 0;
  try {
    for await (const chunk of stream.setEncoding('utf8') as AsyncIterable<string>) {
      length += chunk.length;
      if (length <= LONGEST_ANSWER) chunks.push(chunk);
      yield chunk;
    }
    const text = chunks.join('');
    if (length <= LONGEST_ANSWER && !endsInError(text)) await write(deps, request, reply, text);
  } finally {
    await release(deps, request);
  }
}

/** An error during a stream is its last event. */
function endsInError(stream: string): boolean {
  const last = stream.trimEnd().split('\n\n').at(-1)!;
  return /^event: error$/m.test(last) || /^data: \{"error":/m.test(last);
}

async function write(deps: Deps, request: FastifyRequest, reply: FastifyReply, text: string): Promise<void> {
  if (text.length > LONGEST_ANSWER) return release(deps, request);
  await settle(deps, request, async hold => {
    const sealed = seal(text, sealingOf(request, hold));
    const contentType = String(reply.getHeader('content-type') ?? 'application/json');
    const { statusCode } = reply;
    await store.writeSealedAnswer(deps.pool, hold, { sealed, statusCode, contentType });
  });
}

const release = (deps: Deps, request: FastifyRequest): Promise<void> =>
  settle(deps, request, hold => store.releaseKey(deps.pool, hold));

/** Runs once. A failure to write must not fail the response: the hold then expires. */
async function settle(
  { log }: Deps,
  request: FastifyRequest,
  end: (hold: store.Hold) => Promise<void>,
): Promise<void> {
  const { holding } = request;
  if (!holding || holding.settled) return;
  holding.settled = true;
  clearInterval(holding.beat);
  await end(holding.hold).catch(error => log.warn({ error }, 'an Idempotency-Key was not written'));
}
