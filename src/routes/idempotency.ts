// `Idempotency-Key`: a repeated request has no effect and gets the response of the first one. Here are the key itself, and routes that
// produce their response in one transaction, in which they also claim the key and store the response. All other routes are in
// kept-answers.ts.
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type pg from 'pg';
import { type Static, Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { inTransaction } from '../store/database.ts';
import * as store from '../store/idempotency.ts';

const LIFETIME_SECONDS = 24 * 3600;
const LONGEST_KEY = 255;

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      description: `Any text of up to ${LONGEST_KEY} characters. For 24 hours, the same request with the same key has no further effect and gets the first answer; a different request with that key is a 409.`,
    }),
  ),
});
export type IdempotencyHeaders = Static<typeof IdempotencyHeaders>;

/** Runs `make` in one transaction. Its result is the response. */
export type Commit<Answer> = (make: (tx: pg.PoolClient) => Promise<Answer>) => Promise<Answer>;

/** A concurrent request has claimed the key and stored its response. */
class AlreadyAnswered extends Error {}

/**
 * For routes with `config: { answersOnce: true }`. `content`: the request's content besides its path, for the fingerprint. `work` may
 * prepare outside the transaction and calls `commit` once. Failures are not stored, so a failed request may be repeated.
 */
export async function answerOnce<Answer extends object>(
  deps: Deps,
  request: FastifyRequest,
  reply: FastifyReply,
  content: unknown,
  work: (commit: Commit<Answer>) => Promise<Answer>,
): Promise<Answer> {
  const claim = claimOf(request, content);
  if (claim === null) return work(make => inTransaction(deps.pool, make));
  const given = () => findAnswer<Answer>(deps, reply, claim);
  try {
    return (await given()) ?? (await work(make => claimAndMake(deps, claim, make)));
  } catch (error) {
    // it may have failed because the same request has succeeded concurrently
    const answer = await given();
    if (answer) return answer;
    throw error;
  }
}

function claimAndMake<Answer>(
  deps: Deps,
  claim: store.Claim,
  make: (tx: pg.PoolClient) => Promise<Answer>,
): Promise<Answer> {
  return inTransaction(deps.pool, async tx => {
    if (!(await store.claimKey(tx, claim))) throw new AlreadyAnswered();
    const answer = await make(tx);
    await store.writeAnswer(tx, claim, answer);
    return answer;
  });
}

async function findAnswer<Answer>(
  deps: Deps,
  reply: FastifyReply,
  claim: store.Claim,
): Promise<Answer | null> {
  const given = await store.findGivenAnswer(deps.pool, claim);
  if (!given) return null;
  if (given.fingerprint !== claim.fingerprint) throw keyReused(claim.key);
  reply.header(REPLAYED, 'true');
  return given.answer as Answer;
}

// ---- shared with kept-answers.ts

/** Header of a repeated response. */
export const REPLAYED = 'idempotent-replayed';

/** The claim of a request; null without an Idempotency-Key. */
export function claimOf(request: FastifyRequest, content: unknown): store.Claim | null {
  const key = keyOf(request);
  if (key === null) return null;
  const owner = request.caller?.projectId ?? 'organization';
  return { owner, key, fingerprint: fingerprintOf(request, content), lifetimeSeconds: LIFETIME_SECONDS };
}

export function keyReused(key: string): ApiError {
  const message = `The Idempotency-Key '${key}' was used for another request. Use a new key for each request, and the same one only to send it again.`;
  return new ApiError('idempotency_key_reused', message, { param: 'Idempotency-Key' });
}

function keyOf(request: FastifyRequest): string | null {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return null;
  if (typeof key === 'string' && key.length > 0 && key.length <= LONGEST_KEY) return key;
  throw new ApiError('invalid_value', `An Idempotency-Key has 1 to ${LONGEST_KEY} characters.`, {
    param: 'Idempotency-Key',
  });
}

function fingerprintOf({ method, url }: FastifyRequest, content: unknown): string {
  const text = `${method} ${url.split('?')[0]}\n${JSON.stringify(content)}`;
  return createHash('sha256').update(text).digest('hex');
}
