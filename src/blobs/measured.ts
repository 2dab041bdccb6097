// Counts and hashes bytes on their way into a store, and enforces a size limit. Stores nothing.
import { createHash, type Hash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { addAbortSignal } from 'node:stream';
import { type BlobInfo, BlobTooLarge, type PutOptions } from './blobs.ts';

export interface Measured {
  /** Throws when the source fails, is aborted or exceeds the limit. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Valid after `chunks` was read to its end. */
  info(): BlobInfo;
  /** Why `chunks` threw. */
  failure(): unknown;
}

interface Passed {
  hash: Hash;
  bytes: number;
  failure: unknown;
}

export function measure(key: string, body: Readable | Uint8Array, options: PutOptions = {}): Measured {
  const passed: Passed = { hash: createHash('sha256'), bytes: 0, failure: undefined };
  const source = body instanceof Uint8Array ? [body] : readSource(body, options.signal);
  return {
    chunks: pass(key, source, passed, options),
    info: () => ({ key, sizeBytes: passed.bytes, sha256: passed.hash.digest('hex') }),
    failure: () => passed.failure,
  };
}

/** A source that closes early (a disconnected client) throws ERR_STREAM_PREMATURE_CLOSE. */
function readSource(body: Readable, signal: AbortSignal | undefined): AsyncIterable<Uint8Array | string> {
  return signal ? addAbortSignal(signal, body) : body;
}

async function* pass(
  key: string,
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array | string>,
  passed: Passed,
  { limitBytes = Number.POSITIVE_INFINITY, signal }: PutOptions,
): AsyncGenerator<Uint8Array> {
  try {
    signal?.throwIfAborted();
    for await (const piece of source) {
      const chunk = typeof piece === 'string' ? Buffer.from(piece) : piece;
      passed.bytes += chunk.byteLength;
      if (passed.bytes > limitBytes) throw new BlobTooLarge(key, limitBytes);
      passed.hash.update(chunk);
      yield chunk;
    }
  } catch (error) {
    passed.failure = error;
    throw error;
  }
}
