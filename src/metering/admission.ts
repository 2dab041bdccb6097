// Admits inference requests under the rate limits of their project, at once or after waiting. The limits are token buckets in the
// database (store/rate-limits.ts); the usage recorder replaces estimated tokens by actual ones.
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../errors.ts';
import type { Queryable } from '../store/database.ts';
import { takeFromLimits } from '../store/rate-limits.ts';
import { type Bucket, bucketsOf, headersOf, secondsUntilFits, tightest, writeDuration } from './buckets.ts';

export interface Take {
  projectId: string;
  /** Base model whose limits apply. */
  model: string;
  tokens: number;
}

export interface Admitted {
  /** Whether any limit applies. */
  limited: boolean;
  /** `x-ratelimit-*` headers, of the limits with the least remaining. */
  headers: Record<string, string>;
  /** Null when the request is admitted. */
  refusal: ApiError | null;
}

/** The request will fit after `seconds`. */
export class LimitReached extends ApiError {
  readonly seconds: number;

  constructor(message: string, seconds: number) {
    super('rate_limit_exceeded', message, { retryAfterSeconds: Math.max(1, Math.ceil(seconds)) });
    this.seconds = seconds;
  }
}

export async function admitRequest(db: Queryable, take: Take): Promise<Admitted> {
  const { admitted, limits } = await takeFromLimits(db, take);
  const before = limits.flatMap(bucketsOf);
  const needs = (bucket: Bucket) => (bucket.counts === 'tokens' ? take.tokens : 1);
  const after = before.map(bucket => ({ ...bucket, used: bucket.used + (admitted ? needs(bucket) : 0) }));
  const shown = (['requests', 'tokens'] as const).flatMap(
    counts => tightest(after.filter(bucket => bucket.counts === counts)) ?? [],
  );
  return {
    limited: limits.length > 0,
    headers: Object.assign({}, ...shown.map(headersOf)),
    refusal: admitted ? null : refusalOf(before, needs, take),
  };
}

function refusalOf(
  buckets: Bucket[],
  needs: (bucket: Bucket) => number,
  { projectId, model }: Take,
): ApiError {
  const waits = buckets.map(bucket => ({ bucket, seconds: secondsUntilFits(bucket, needs(bucket)) }));
  const { bucket, seconds } = waits.reduce((worst, wait) => (wait.seconds > worst.seconds ? wait : worst));
  const where = `for ${bucket.model === model ? model : 'all models'} in project ${projectId} on ${bucket.name}`;
  const numbers = `Limit ${bucket.limit}, Used ${Math.ceil(bucket.used)}, Requested ${needs(bucket)}`;
  if (seconds === Number.POSITIVE_INFINITY)
    return new ApiError('rate_limit_exceeded', `Request too large ${where}: ${numbers}. It can never fit.`);
  const message = `Rate limit reached ${where}: ${numbers}. Please try again in ${writeDuration(seconds)}.`;
  return new LimitReached(message, seconds);
}

/**
 * Waits until a background request is admitted; returns whether any limit applies. Throws LimitReached if that would take longer than
 * `patienceSeconds`, and ApiError for a request that can never fit.
 */
export async function waitForRoom(
  db: Queryable,
  take: Take,
  { patienceSeconds, signal }: { patienceSeconds: number; signal: AbortSignal },
): Promise<boolean> {
  const deadline = performance.now() + patienceSeconds * 1000;
  for (;;) {
    const { limited, refusal } = await admitRequest(db, take);
    if (refusal === null) return limited;
    if (!(refusal instanceof LimitReached)) throw refusal;
    if (performance.now() + refusal.seconds * 1000 > deadline) throw refusal;
    await sleep(Math.ceil(refusal.seconds * 1000), undefined, { signal });
  }
}

/** Estimates four characters per token, as OpenAI does. The actual numbers replace it later. */
export function estimateTokens(prompt: unknown, maxTokens: number | null | undefined, n = 1): number {
  return Math.ceil((JSON.stringify(prompt) ?? '').length / 4) + n * (maxTokens ?? 0);
}
