// Learning rates of every step, against transformers' through the golden trajectory and by hand.
import { describe, expect, it } from 'vitest';
import { batchesOf, epochOf, isEpochEnd, totalSteps } from '../../src/training/order.ts';
import { learningRateAt } from '../../src/training/schedule.ts';
import { readTrajectory } from './golden-run.ts';

describe('learning rate', () => {
  it('follows the golden cosine with warm-up', () => {
    const { steps } = readTrajectory('llama3', 'lora');
    const options = { learning_rate: 0.02, warmup_ratio: 3 / 20, schedule: 'cosine' } as const;
    for (const [index, { learning_rate: expected }] of steps.entries())
      expect(learningRateAt(index + 1, 20, options)).toBeCloseTo(expected, 12);
  });

  it.each([
    ['linear', [1 / 3, 2 / 3, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]],
    ['constant', [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]],
  ] as const)('%s, after two steps of warm-up', (schedule, expected) => {
    const options = { learning_rate: 1, warmup_ratio: 0.2, schedule };
    expect(expected.map((_, index) => learningRateAt(index + 1, 10, options))).toEqual(expected);
  });

  it('is never zero on the only step of a run', () => {
    const options = { learning_rate: 1, warmup_ratio: 0.05, schedule: 'cosine' } as const;
    expect(learningRateAt(1, 1, options)).toBe(0.5);
  });
});

describe('order of examples', () => {
  const plan = { examples: 10, batchSize: 4, epochs: 3, seed: 1 };

  it('takes every example once an epoch, in another order each time, and the last batch short', () => {
    const examplesOf = batchesOf(plan);
    const epochs = [1, 2, 3].map(epoch => [1, 2, 3].map(batch => [...examplesOf((epoch - 1) * 3 + batch)]));
    for (const epoch of epochs) {
      expect(epoch.map(batch => batch.length)).toEqual([4, 4, 2]);
      expect(epoch.flat().sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
    expect(new Set(epochs.map(String)).size).toBe(3);
    expect(totalSteps(plan)).toBe(9);
    expect([3, 4].map(step => [epochOf(step, plan), isEpochEnd(step, plan)])).toEqual([
      [1, true],
      [2, false],
    ]);
  });

  it('depends on the seed, not on the step it is asked from', () => {
    const examplesOf = batchesOf(plan);
    const sixth = [...examplesOf(6)];
    expect([...batchesOf(plan)(6)]).toEqual(sixth);
    expect([...batchesOf({ ...plan, seed: 2 })(6)]).not.toEqual(sixth);
  });
});
