// Removes a job's objects that no row names: old checkpoints, and what killed runs left behind. The lease of a job that has
// ended runs on until this is done, so that somebody else does it when we die before.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { endLease } from '../store/leases.ts';
import { dropUnservedCheckpoints, findUsedKeys } from '../store/runs.ts';

export interface GarbageDeps {
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
}

export interface CleanedJob {
  readonly id: string;
  /** What a later attempt is about to store must stay: its row comes afterwards. */
  readonly attempt: number;
}

/** Keys are `jobs/{job}/{attempt}/...`. */
export async function cleanJob({ pool, blobs }: GarbageDeps, { id, attempt }: CleanedJob): Promise<void> {
  const found: string[] = [];
  for await (const { key } of blobs.list(`jobs/${id}/`)) {
    if (Number(key.split('/')[2]) <= attempt) found.push(key);
  }
  if (found.length === 0) return;
  const used = await findUsedKeys(pool, id); // after listing: what was stored meanwhile is not in the list
  for (const key of found) if (!used.has(key)) await blobs.delete(key);
}

/** Nothing for a job that goes on, except objects of earlier attempts. */
export async function cleanEndedJob(deps: GarbageDeps, job: CleanedJob): Promise<void> {
  await dropUnservedCheckpoints(deps.pool, job.id);
  await cleanJob(deps, job);
  await endLease(deps.pool, job.id);
}
