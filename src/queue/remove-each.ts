// Removes many things one after the other. One that cannot be removed does not stop the others.

/** Time limit after the first failure: if the store is unavailable, every attempt takes seconds. */
const AFTER_FAILURE_MS = 60_000;

/** Returns the number of removed things. Throws at the end if some failed, with the first error as its cause. */
export async function removeEach<Thing>(
  all: readonly Thing[],
  remove: (one: Thing) => Promise<void>,
  signal?: AbortSignal,
): Promise<number> {
  const failures: unknown[] = [];
  let removed = 0;
  let deadline = Number.POSITIVE_INFINITY;
  for (const one of all) {
    if (signal?.aborted || performance.now() > deadline) break;
    await remove(one).then(
      () => removed++,
      error => failures.push(error),
    );
    if (failures.length === 1) deadline = Math.min(deadline, performance.now() + AFTER_FAILURE_MS);
  }
  if (failures.length === 0) return removed;
  throw new Error(`${removed} of ${all.length} were removed, ${failures.length} could not be`, {
    cause: failures[0],
  });
}
