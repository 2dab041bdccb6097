// Token buckets as reported to clients: remaining amount, reset time, waiting time. The buckets themselves are in the database.
import type { Held } from '../store/rate-limits.ts';

export interface Bucket {
  /** 'all', or the base model of the limit. */
  model: string;
  counts: 'requests' | 'tokens';
  /** Name in OpenAI's error messages. */
  name: string;
  limit: number;
  used: number;
  /** Drain rate. */
  perSecond: number;
}

/** One bucket for each value that is limited. */
export function bucketsOf({ model, ...held }: Held): Bucket[] {
  const kinds = [
    {
      counts: 'requests',
      name: 'requests per min (RPM)',
      limit: held.requestsPerMinute,
      used: held.usedRequests,
      seconds: 60,
    },
    {
      counts: 'requests',
      name: 'requests per day (RPD)',
      limit: held.requestsPerDay,
      used: held.usedDay,
      seconds: 86_400,
    },
    {
      counts: 'tokens',
      name: 'tokens per min (TPM)',
      limit: held.tokensPerMinute,
      used: held.usedTokens,
      seconds: 60,
    },
  ] as const;
  return kinds.flatMap(({ limit, seconds, ...kind }) =>
    limit === null ? [] : [{ model, ...kind, limit, perSecond: limit / seconds }],
  );
}

const left = ({ limit, used }: Bucket): number => Math.max(0, Math.floor(limit - used));

/** The bucket with the least remaining. */
export function tightest(buckets: readonly Bucket[]): Bucket | null {
  return buckets.toSorted((a, b) => left(a) - left(b))[0] ?? null;
}

export function headersOf(bucket: Bucket): Record<string, string> {
  const seconds = bucket.perSecond > 0 ? bucket.used / bucket.perSecond : 0;
  return {
    [`x-ratelimit-limit-${bucket.counts}`]: String(bucket.limit),
    [`x-ratelimit-remaining-${bucket.counts}`]: String(left(bucket)),
    [`x-ratelimit-reset-${bucket.counts}`]: writeDuration(seconds),
  };
}

/** 0 if it fits now; infinite if it never will. */
export function secondsUntilFits({ limit, used, perSecond }: Bucket, needed: number): number {
  if (needed > limit) return Number.POSITIVE_INFINITY;
  return Math.max(0, used + needed - limit) / perSecond;
}

/** `120ms`, `1.5s`, `6m0s`, `1h0m0s`, as OpenAI writes them. */
export function writeDuration(seconds: number): string {
  const ms = Math.ceil(seconds * 1000);
  if (ms < 1000) return `${ms}ms`;
  if (ms < 60_000) return `${ms / 1000}s`;
  const whole = Math.ceil(seconds);
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return `${hours > 0 ? `${hours}h` : ''}${minutes}m${whole % 60}s`;
}
