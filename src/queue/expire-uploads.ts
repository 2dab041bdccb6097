// Removes what uploads leave in the object store: parts of those that ended or ran out of time.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { expireUploads, markUploadCleaned, uploadBlobPrefix } from '../store/uploads.ts';
import { removeEach } from './remove-each.ts';

const AT_ONCE = 100;
/** After an upload's end a part may still be on its way in, and completing one of 8 GB takes a while. */
const GRACE_SECONDS = 3600;

/** Returns of how many. What fails is left for the next time. */
export async function cleanUploads(
  { pool, blobs }: { pool: pg.Pool; blobs: Blobs },
  signal?: AbortSignal,
): Promise<number> {
  const clean = async (id: string) => {
    await removeParts(blobs, id);
    await markUploadCleaned(pool, id);
  };
  return removeEach(await expireUploads(pool, GRACE_SECONDS, AT_ONCE), clean, signal);
}

export async function removeParts(blobs: Blobs, uploadId: string): Promise<void> {
  const keys: string[] = [];
  for await (const { key } of blobs.list(uploadBlobPrefix(uploadId))) keys.push(key);
  for (const key of keys) await blobs.delete(key);
}
