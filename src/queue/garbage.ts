// Deletes a job's objects that no row refers to: old checkpoints, and leftovers of killed runs. The lease of a job that has ended is kept
// until this is done, so that the sweep of another worker repeats it after a crash.
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
  /** Objects of later attempts are kept: their rows are written after them. */
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

/** For a job that has not ended, only objects of this and earlier attempts that no row refers to are deleted. */
export async function cleanEndedJob(deps: GarbageDeps, job: CleanedJob): Promise<void> {
  await dropUnservedCheckpoints(deps.pool, job.id);
  await cleanJob(deps, job);
  await endLease(deps.pool, job.id);
}
