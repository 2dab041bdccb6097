// Deletes objects that no row refers to: files of an api that was killed before it wrote their rows, and earlier versions of base models.
// Objects of jobs and uploads are deleted by garbage.ts and expire-uploads.ts.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { unnamedFileKeys } from '../store/files.ts';
import { unnamedModelKeys } from '../store/models.ts';
import { removeEach } from './remove-each.ts';

/** A younger object may not have its row yet, or is still read by a run that started before its model was replaced. */
const GRACE_MS = 48 * 3600_000;
const AT_ONCE = 500;

type Unnamed = (pool: pg.Pool, keys: readonly string[]) => Promise<string[]>;

const roots: Record<string, Unnamed> = { 'files/': unnamedFileKeys, 'models/': unnamedModelKeys };

/** Returns the number of deleted objects. A large store takes hours: `signal` stops it, and the next night starts again. */
export async function sweepObjects(
  { pool, blobs }: { pool: pg.Pool; blobs: Blobs },
  { now = Date.now(), signal }: { now?: number; signal?: AbortSignal } = {},
): Promise<number> {
  let removed = 0;
  for (const [prefix, unnamed] of Object.entries(roots)) {
    for await (const keys of oldKeys(blobs, prefix, now - GRACE_MS)) {
      if (signal?.aborted) return removed;
      removed += await removeEach(await unnamed(pool, keys), key => blobs.delete(key), signal);
    }
  }
  return removed;
}

async function* oldKeys(blobs: Blobs, prefix: string, before: number): AsyncGenerator<string[]> {
  let keys: string[] = [];
  for await (const { key, storedAt } of blobs.list(prefix)) {
    if (storedAt.getTime() < before) keys.push(key);
    if (keys.length < AT_ONCE) continue;
    yield keys;
    keys = [];
  }
  yield keys;
}
