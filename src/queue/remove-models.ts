// Removes the objects of deleted models that nothing needs any more. The api does so at once where it can.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { findDeletedModels, forgetModelFiles, unusedModelKeys } from '../store/models.ts';

const AT_ONCE = 500;

export async function removeModels({ pool, blobs }: { pool: pg.Pool; blobs: Blobs }): Promise<number> {
  const models = await findDeletedModels(pool, AT_ONCE);
  for (const id of models) {
    for (const key of await unusedModelKeys(pool, id)) await blobs.delete(key);
    await forgetModelFiles(pool, id);
  }
  return models.length;
}
