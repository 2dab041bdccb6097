// Every hyperparameter of anneal-tiny. Changing one makes another model.

export const recipe = {
  name: 'anneal-tiny',
  seed: 20260101,

  vocabSize: 3072,
  /** The vocabulary is trained on this many documents, the first ones. */
  vocabularyDocuments: 50_000,

  hiddenSize: 192,
  intermediateSize: 512,
  layers: 6,
  heads: 6,
  kvHeads: 2,
  maxPositions: 512,
  ropeTheta: 10_000,
  normEpsilon: 1e-5,
  /** Standard deviation of the first weights; projections back into the residual stream get less, by sqrt(2 layers). */
  initialDeviation: 0.02,

  /**
   * In the first phase documents are concatenated, in the second they are separate (batches.ts). Either teaches the
   * language; looking up who did what in the text at hand is learned only when nothing else is in the context.
   */
  joinedSteps: 5400,
  separateSteps: 2600,
  /** Rows of a step and tokens of a row. */
  rows: 2,
  rowLength: 512,
  peakLearningRate: 2.5e-3,
  /** Fraction of each phase's steps, at its end, in which the learning rate decreases. */
  cooldown: 0.3,
  /** Fraction of the peak learning rate at the last step. */
  finalFraction: 0.05,
  warmupSteps: 60,
  weightDecay: 0.1,
  maxGradNorm: 1,

  /** Batches of another seed, for the held-out loss. */
  heldOutBatches: 16,
  heldOutSeed: 77,
};

export type Recipe = typeof recipe;

export const totalSteps = (r: Recipe): number => r.joinedSteps + r.separateSteps;

/** Warm-up, constant, linear cooldown, in both phases (https://arxiv.org/abs/2405.18392). Steps count from 1. */
export function learningRateAt(step: number, r: Recipe): number {
  const [done, steps] =
    step <= r.joinedSteps ? [step, r.joinedSteps] : [step - r.joinedSteps, r.separateSteps];
  const up = done / r.warmupSteps;
  const left = (steps - done) / (r.cooldown * steps);
  const down = r.finalFraction + (1 - r.finalFraction) * left;
  return r.peakLearningRate * Math.min(up, down, 1);
}
