// Removes files that were deleted or have expired: marked first, then the object, then the row.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { markRemovableFiles, removeFile } from '../store/files.ts';
import { removeEach } from './remove-each.ts';

const AT_ONCE = 500;

/** Returns how many. A job that has not ended keeps the objects that it reads. What fails is left for the next time. */
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
