// Removes files that were deleted or have expired: marked first, then the object, then the row.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { markExpiredFiles, removeFile } from '../store/files.ts';
import { findFilesInUse } from '../store/runs.ts';

const AT_ONCE = 500;

/** A job that has not ended keeps the objects that it reads. What fails is left for the next time. */
export async function expireFiles({ pool, blobs }: { pool: pg.Pool; blobs: Blobs }): Promise<number> {
  const files = await markExpiredFiles(pool, AT_ONCE);
  const inUse = await findFilesInUse(
    pool,
    files.map(file => file.id),
  );
  const unused = files.filter(file => !inUse.has(file.id));
  for (const file of unused) {
    await blobs.delete(file.blobKey);
    await removeFile(pool, file.id);
  }
  return unused.length;
}
