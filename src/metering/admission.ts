// Lets requests for answers in under the limits of their project, at once or after a wait. The limits are token buckets in the
// database (store/rate-limits.ts); what a request took in the end is the usage recorder's to correct.
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../errors.ts';
import type { Queryable } from '../store/database.ts';
import { takeFromLimits } from '../store/rate-limits.ts';
import { type Bucket, bucketsOf, headersOf, secondsUntilFits, tightest, writeDuration } from './buckets.ts';

export interface Take {
  projectId: string;
  /** Whose limit it is: a base model. */
  model: string;
  tokens: number;
}

export interface Admitted {
  /** Whether there are limits at all. */
  limited: boolean;
  /** Of the limits with the least left, as clients are told. */
  headers: Record<string, string>;
  /** Null when it was let in. */
  refusal: ApiError | null;
}

/** It will fit after so many seconds. */
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
 * Lets a request in that nobody waits for, when it fits: returns whether there are limits. Throws LimitReached when that is further away than
 * `patienceSeconds`, and what never fits.
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

/** A token has about four characters of English, as OpenAI estimates too. The numbers are corrected when they are known. */
export function estimateTokens(prompt: unknown, maxTokens: number | null | undefined, n = 1): number {
  return Math.ceil((JSON.stringify(prompt) ?? '').length / 4) + n * (maxTokens ?? 0);
}
