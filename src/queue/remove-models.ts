// Deletes the objects of deleted models that are no longer needed. The API does so at once where possible.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { findDeletedModels, forgetModelFiles, unusedModelKeys } from '../store/models.ts';
import { removeEach } from './remove-each.ts';

const AT_ONCE = 500;

/** Returns the number of cleaned models. Failures are retried at the next run. */
export async function removeModels(
  { pool, blobs }: { pool: pg.Pool; blobs: Blobs },
  signal?: AbortSignal,
): Promise<number> {
  const remove = async (id: string) => {
    for (const key of await unusedModelKeys(pool, id)) await blobs.delete(key);
    await forgetModelFiles(pool, id);
  };
  return removeEach(await findDeletedModels(pool, AT_ONCE), remove, signal);
}
