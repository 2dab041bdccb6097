// The loop alone, on a trainer that computes nothing.
import { expect, test } from 'vitest';
import type { Example } from '../../src/data/example-form.ts';
import { type Run, trainToEnd } from '../../src/training/loop.ts';
import type { LossSums } from '../../src/training/sums.ts';
import type { Trainer } from '../../src/training/trainer.ts';
import { validationByLoss } from '../../src/training/validation.ts';

const example: Example = {
  sequences: [{ tokens: new Int32Array(4), trained: new Uint8Array(4) }],
  values: [],
};
const HYPERPARAMETERS = { schedule: 'linear', warmup_ratio: 0, learning_rate: 1e-3 };
const dataset = { count: 4, read: () => example } as unknown as Run['training'];

/** Two steps, whose losses on the validation file are given. */
function runWith(validationLoss: number): Run {
  const sums: LossSums = { loss: 1, weight: 1, score: 0, count: 1 };
  const trainer = {
    trained: { objective: { form: {}, measure: 'mean_token_accuracy' } },
    takeStep: async () => ({ ...sums, gradientNorm: 1 }),
    measureLoss: async () => ({ ...sums, loss: validationLoss }),
  } as unknown as Trainer;
  return {
    workDirectory: '/nonexistent',
    modelName: 'none',
    checkpointSeconds: 1000,
    plan: { examples: 4, batchSize: 2, epochs: 1, seed: 1 },
    shapes: [{ rows: 1, length: 8 }],
    costs: { hiddenSize: 8 },
    trainer,
    training: dataset,
    validation: validationByLoss(trainer, dataset),
    rollouts: null,
    progress: {
      hyperparameters: HYPERPARAMETERS,
      step: 0,
      trainedTokens: 0,
      history: [],
    } as unknown as Run['progress'],
    emit: () => undefined,
  };
}

test.each([Number.NaN, Number.POSITIVE_INFINITY])(
  'a validation loss of %d ends the run before it is said',
  async loss => {
    const run = runWith(loss);
    await expect(trainToEnd(run)).rejects.toMatchObject({
      code: 'training_diverged',
      message: expect.stringContaining('step 1'),
    });
    expect(run.progress.history).toEqual([]);
  },
);
