// Bytes on their way into a store: counted, hashed and held to a limit as they pass. Nothing is stored here.
import { createHash, type Hash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { addAbortSignal } from 'node:stream';
import { type BlobInfo, BlobTooLarge, type PutOptions } from './blobs.ts';

export interface Measured {
  /** To be read to its end; throws when the source breaks off, is aborted or passes the limit. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Valid once `chunks` has been read to its end. */
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

/** A stream that ends before its end (a client that went away) throws ERR_STREAM_PREMATURE_CLOSE here. */
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
