import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openModel } from '../../src/models/registry.ts';
import { learningRateAt, type Recipe, recipe } from '../../src/pretraining/recipe.ts';
import { pretrain } from '../../src/pretraining/run.ts';

const small: Recipe = {
  ...recipe,
  vocabSize: 400,
  vocabularyDocuments: 100,
  hiddenSize: 32,
  intermediateSize: 48,
  layers: 2,
  heads: 2,
  kvHeads: 1,
  joinedSteps: 4,
  separateSteps: 4,
  warmupSteps: 2,
  rows: 2,
  rowLength: 128,
  heldOutBatches: 2,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-pretraining-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A signal that is found aborted when it is asked for the `nth` time. */
function abortedAt(nth: number): AbortSignal {
  let asked = 0;
  return {
    get aborted() {
      return ++asked >= nth;
    },
  } as AbortSignal;
}

const run = (name: string, signal?: AbortSignal) =>
  pretrain({
    recipe: small,
    work: join(folder, `${name}-work`),
    out: join(folder, name),
    say: () => {},
    ...(signal && { signal }),
  });

test('a run writes a model that opens; one that was stopped and went on writes the same bytes', async () => {
  expect(await run('whole')).toBe(true);
  expect((await openModel(join(folder, 'whole'))).shape).toMatchObject({
    layers: 2,
    hiddenSize: 32,
    vocabSize: 400,
  });
  expect(await readdir(join(folder, 'whole'))).toContain('README.md');

  expect(await run('stopped', abortedAt(6))).toBe(false);
  expect(await readdir(folder)).not.toContain('stopped');
  expect(await run('stopped')).toBe(true);
  for (const name of ['model.safetensors', 'tokenizer.json'])
    expect(await readFile(join(folder, 'stopped', name))).toEqual(
      await readFile(join(folder, 'whole', name)),
    );
}, 120_000);

test('the rate rises, stays and falls, twice', () => {
  const r = { ...recipe, joinedSteps: 2000, separateSteps: 1000 };
  const rates = (steps: number[]) => steps.map(step => learningRateAt(step, r) / r.peakLearningRate);
  const rising = 1 / r.warmupSteps;
  expect(rates([1, 60, 61, 1000, 1400])).toEqual([rising, 1, 1, 1, 1]);
  expect(rates([1401, 2000]).map(rate => rate.toFixed(3))).toEqual(['0.998', '0.050']);
  expect(rates([2001, 2060, 2500])).toEqual([rising, 1, 1]);
  expect(rates([3000])[0]).toBeCloseTo(r.finalFraction);
});
