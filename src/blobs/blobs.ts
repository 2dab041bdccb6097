// The interface of the object store: immutable objects under keys. Two implementations: a local folder and S3.
import type { Readable } from 'node:stream';

export interface BlobInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
}

export interface ListedBlob {
  readonly key: string;
  readonly storedAt: Date;
}

export interface PutOptions {
  limitBytes?: number;
  signal?: AbortSignal;
}

export interface Blobs {
  /** Stores a stream. The object becomes visible only when complete. Throws BlobTooLarge above `limitBytes`. */
  put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<BlobInfo>;
  /** Throws BlobNotFound. `range` includes its start and excludes its end. */
  get(key: string, range?: { start: number; end: number }): Promise<Readable>;
  size(key: string): Promise<number | null>;
  /** Does nothing when the object does not exist. */
  delete(key: string): Promise<void>;
  /** Objects whose keys begin with `prefix`, in no particular order. */
  list(prefix: string): AsyncIterable<ListedBlob>;
  /** Path of the object if the store is a folder; null otherwise. */
  localPath(key: string): string | null;
  /** Throws when the store is not available. */
  check(): Promise<void>;
}

export class BlobNotFound extends Error {
  readonly key: string;

  constructor(key: string) {
    super(`no object ${key}`);
    this.key = key;
  }
}

export class BlobTooLarge extends Error {
  readonly limitBytes: number;

  constructor(key: string, limitBytes: number) {
    super(`object ${key} has more than ${limitBytes} bytes`);
    this.limitBytes = limitBytes;
  }
}
