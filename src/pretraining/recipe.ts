// Every number that anneal-tiny is made with. To change one is to make another model.

export const recipe = {
  name: 'anneal-tiny',
  seed: 20260101,

  vocabSize: 3072,
  /** Documents that the vocabulary is counted on: the first ones. */
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

  steps: 5600,
  /** Rows of a step and tokens of a row; the documents follow each other without gaps. */
  rows: 2,
  rowLength: 512,
  peakLearningRate: 2.5e-3,
  /** The part of the steps, at the end, in which the rate falls. */
  cooldown: 0.3,
  /** What is left of the rate at the last step. */
  finalFraction: 0.05,
  warmupSteps: 60,
  weightDecay: 0.1,
  maxGradNorm: 1,

  /** Rows of another seed, never trained on, that the last loss is measured on. */
  heldOutRows: 32,
  heldOutSeed: 77,
};

export type Recipe = typeof recipe;

/**
 * Linear up, constant, linear down: until the rate falls it does not depend on the number of steps, so a run can be made longer.
 * https://arxiv.org/abs/2405.18392. Steps count from 1.
 */
export function learningRateAt(step: number, r: Recipe): number {
  const up = step / r.warmupSteps;
  const left = (r.steps - step) / (r.cooldown * r.steps);
  const down = r.finalFraction + (1 - r.finalFraction) * left;
  return r.peakLearningRate * Math.min(up, down, 1);
}
