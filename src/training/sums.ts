// Sums of losses and metrics over examples. How a loss is computed is the objective's.
import type { HostArrays } from '../engine/program.ts';

export interface LossSums {
  readonly loss: number;
  /** The loss of a batch is loss / weight. */
  readonly weight: number;
  /** Its metric is score / count. */
  readonly score: number;
  readonly count: number;
}

export const NO_LOSS: LossSums = { loss: 0, weight: 0, score: 0, count: 0 };

export const addSums = (a: LossSums, b: LossSums): LossSums => ({
  loss: a.loss + b.loss,
  weight: a.weight + b.weight,
  score: a.score + b.score,
  count: a.count + b.count,
});

/** Reads them from a program's outputs. */
export const sumsOf = ({ lossSum, score, count, weight = count }: HostArrays): LossSums => ({
  loss: lossSum![0]!,
  weight: weight![0]!,
  score: score![0]!,
  count: count![0]!,
});
