// Removes deleted and expired files: the row is marked, then the object and the row are deleted.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { markRemovableFiles, removeFile } from '../store/files.ts';
import { removeEach } from './remove-each.ts';

const AT_ONCE = 500;

/** Returns the number of removed files. Leaves out files that an active job or batch reads; failures are retried at the next run. */
export async function expireFiles(
  { pool, blobs }: { pool: pg.Pool; blobs: Blobs },
  signal?: AbortSignal,
): Promise<number> {
  const remove = async ({ id, blobKey }: { id: string; blobKey: string }) => {
    await blobs.delete(blobKey);
    await removeFile(pool, id);
  };
  return removeEach(await markRemovableFiles(pool, AT_ONCE), remove, signal);
}
