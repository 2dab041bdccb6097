// Requests that ask for the same in one turn of the event loop share one read, and none is told what was read before it asked.
import { setImmediate as endOfTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { shareReads } from '../../src/routes/shared-reads.ts';

/** Reads that end when they are told to; each is named by its key and its number. */
function controlledReads() {
  const reads: { resolve(): void; reject(error: Error): void }[] = [];
  const ask = shareReads(
    key =>
      new Promise<string>((resolve, reject) => {
        const name = `${key} ${reads.length + 1}`;
        reads.push({ resolve: () => resolve(name), reject });
      }),
  );
  return { reads, ask };
}

test('those who ask in one turn share a read, by key', async () => {
  const { reads, ask } = controlledReads();
  const answers = Promise.all([ask('a'), ask('b'), ask('a'), ask('a')]);
  await endOfTurn();
  for (const read of reads) read.resolve();
  expect(await answers).toEqual(['a 1', 'b 2', 'a 1', 'a 1']);
});

test('who asks when a read has begun gets one of its own, whichever ends first', async () => {
  const { reads, ask } = controlledReads();
  const first = ask('a');
  await endOfTurn();
  expect(reads).toHaveLength(1);
  const second = ask('a');
  await endOfTurn();
  expect(reads).toHaveLength(2);
  reads[1]!.resolve();
  expect(await second).toBe('a 2');
  reads[0]!.resolve();
  expect(await first).toBe('a 1');
});

test('a read that fails fails for all who share it, and for nobody afterwards', async () => {
  const { reads, ask } = controlledReads();
  const answers = Promise.allSettled([ask('a'), ask('a')]);
  await endOfTurn();
  reads[0]!.reject(new Error('the database is away'));
  expect((await answers).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  const next = ask('a');
  await endOfTurn();
  reads[1]!.resolve();
  expect(await next).toBe('a 2');
});
