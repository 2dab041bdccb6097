// Object storage as the service sees it: immutable objects under keys. Two adapters: a local folder and S3.
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
  /** Stores the stream's bytes. Nothing is visible under `key` unless it is whole. Rejects when `limitBytes` is passed (BlobTooLarge). */
  put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<BlobInfo>;
  /** Throws BlobNotFound. `range` is inclusive of start, exclusive of end. */
  get(key: string, range?: { start: number; end: number }): Promise<Readable>;
  size(key: string): Promise<number | null>;
  /** No error when the object is not there. */
  delete(key: string): Promise<void>;
  /** What lies under keys that begin with `prefix`, in no order. */
  list(prefix: string): AsyncIterable<ListedBlob>;
  /** A path that holds the object, where the store is a folder; null elsewhere. */
  localPath(key: string): string | null;
  /** Resolves when the store answers; throws with the reason otherwise. */
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
