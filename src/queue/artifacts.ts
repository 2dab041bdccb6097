// Uploads folders as objects and downloads them: checkpoints, results, inputs. The SHA-256 is verified in both directions.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Blobs } from '../blobs/blobs.ts';
import type { Logger } from '../log.ts';
import type { StoredFile } from '../store/models.ts';
import { untilItWorks } from './retry.ts';

export interface Store {
  readonly blobs: Blobs;
  readonly log: Logger;
  /** Ends waiting for a store that is unavailable. */
  readonly signal: AbortSignal;
}

/** Stores every file of a folder under `prefix`. */
export async function uploadFolder(store: Store, directory: string, prefix: string): Promise<StoredFile[]> {
  const stored: StoredFile[] = [];
  for (const path of await filesOf(directory)) {
    stored.push(await uploadFile(store, join(directory, path), `${prefix}/${path}`, path));
  }
  return stored;
}

export async function uploadFile(
  store: Store,
  source: string,
  key: string,
  path: string,
): Promise<StoredFile> {
  return untilItWorks(
    async () => {
      const { sizeBytes, sha256 } = await store.blobs.put(key, createReadStream(source), {
        signal: store.signal,
      });
      await verify(store.blobs, key, sha256);
      return { path, key, bytes: sizeBytes, sha256 };
    },
    { what: `storing ${key}`, log: store.log, signal: store.signal },
  );
}

/** Reads the object back, since a checkpoint that cannot be read is useless. */
async function verify(blobs: Blobs, key: string, expected: string): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of await blobs.get(key)) hash.update(chunk);
  const found = hash.digest('hex');
  if (found !== expected) throw new Error(`object ${key} has sha256 ${found}, and ${expected} was stored`);
}

/** Downloads all objects into a folder. */
export async function downloadFolder(store: Store, files: StoredFile[], directory: string): Promise<void> {
  for (const file of files) await downloadFile(store, file, join(directory, file.path));
}

export async function downloadFile(
  store: Store,
  { key, sha256 }: Pick<StoredFile, 'key' | 'sha256'>,
  path: string,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await untilItWorks(
    async () => {
      const hash = createHash('sha256');
      await pipeline(
        await store.blobs.get(key),
        async function* (source: AsyncIterable<Uint8Array>) {
          for await (const chunk of source) {
            hash.update(chunk);
            yield chunk;
          }
        },
        createWriteStream(path),
        { signal: store.signal },
      );
      const found = hash.digest('hex');
      if (found !== sha256) throw new Error(`object ${key} has sha256 ${found}, and ${sha256} was stored`);
    },
    { what: `reading ${key}`, log: store.log, signal: store.signal },
  );
}

async function filesOf(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => entry.isFile())
    .map(entry => relative(directory, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}
