// Retries work during an outage of the database or the object store. Errors that are not transient are thrown at once.
import { setTimeout as sleep } from 'node:timers/promises';
import { BlobNotFound, BlobTooLarge } from '../blobs/blobs.ts';
import type { Logger } from '../log.ts';
import { openOutage } from './outage.ts';

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;
/** An outage that lasts longer is not a restart or a network fault. */
const GIVE_UP_MS = 3600_000;

export interface RetryOptions {
  /** What is being done, for the log. */
  what: string;
  log: Logger;
  /** Ends the retries; its reason is thrown. */
  signal?: AbortSignal;
  giveUpMs?: number;
}

/** Calls `work` until it succeeds. It must be idempotent, because the answer to a commit may be lost. */
export async function untilItWorks<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const deadline = Date.now() + (options.giveUpMs ?? GIVE_UP_MS);
  const outage = openOutage(options.log, options.what);
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_DELAY_MS)) {
    options.signal?.throwIfAborted();
    try {
      const result = await work();
      outage.over();
      return result;
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (Date.now() > deadline) throw new Error(`${options.what}: gave up waiting`, { cause: error });
      outage.failed(error);
    }
    await sleep(delay, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

/** SQLSTATE classes: connection, resources, operator's intervention, system, transaction rolled back. */
const TRANSIENT_SQLSTATE = /^(08|53|57|58|40)/;
const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Whether a retry may succeed: the server was unavailable or busy, or the connection was lost. */
export function isTransient(error: unknown): boolean {
  if (error instanceof BlobNotFound || error instanceof BlobTooLarge) return false;
  const { code, syscall, $metadata } = error as {
    code?: unknown;
    syscall?: unknown;
    $metadata?: { httpStatusCode?: number };
  };
  if (typeof code === 'string' && SQLSTATE.test(code) && !syscall) return TRANSIENT_SQLSTATE.test(code);
  const status = $metadata?.httpStatusCode;
  if (status !== undefined) return status >= 500 || status === 408 || status === 429;
  if ($metadata) return true; // the SDK got no answer
  return isCutConnection(error as Error & { code?: string });
}

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ERR_STREAM_PREMATURE_CLOSE',
]);

/** node-postgres has no error codes for lost sessions. */
const CUT =
  /connection terminated|client has encountered a connection error|timeout exceeded when trying to connect|query read timeout|socket hang up|aborted|not queryable/i;

function isCutConnection(error: Error & { code?: string; errors?: Error[]; cause?: unknown }): boolean {
  if (error.code && NETWORK_CODES.has(error.code)) return true;
  if (error.name === 'AbortError') return false;
  if (error.name === 'TimeoutError' || CUT.test(error.message ?? '')) return true;
  if (error.errors?.some(inner => isTransient(inner))) return true;
  return error.cause instanceof Error && isTransient(error.cause);
}
