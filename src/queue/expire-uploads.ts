// Deletes the parts of uploads that have ended or expired.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { expireUploads, markUploadCleaned, uploadBlobPrefix } from '../store/uploads.ts';
import { removeEach } from './remove-each.ts';

const AT_ONCE = 100;
/** A part may still be arriving when an upload ends, and joining 8 GB takes a while. */
const GRACE_SECONDS = 3600;

/** Returns the number of cleaned uploads. Failures are retried at the next run. */
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
