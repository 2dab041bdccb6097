// Which examples a step trains on: every epoch is a new permutation from the seed, cut into batches. A function of the
// step alone.
import { permutation } from './random.ts';

export interface Plan {
  readonly examples: number;
  readonly batchSize: number;
  readonly epochs: number;
  readonly seed: number;
}

const stepsPerEpoch = ({ examples, batchSize }: Plan): number => Math.ceil(examples / batchSize);

export const totalSteps = (plan: Plan): number => stepsPerEpoch(plan) * plan.epochs;

/** Both count from 1. */
export const epochOf = (step: number, plan: Plan): number => Math.ceil(step / stepsPerEpoch(plan));

export const isEpochEnd = (step: number, plan: Plan): boolean => step % stepsPerEpoch(plan) === 0;

/** Returns the examples of a step (from 1), in order; the last batch of an epoch may be smaller. */
export function batchesOf(plan: Plan): (step: number) => Int32Array {
  let current: { epoch: number; order: Int32Array } = { epoch: 0, order: new Int32Array() };
  return step => {
    const epoch = epochOf(step, plan);
    if (current.epoch !== epoch)
      current = {
        epoch,
        order: permutation(plan.examples, { seed: plan.seed, purpose: 'order', at: [epoch, 0, 0] }),
      };
    const first = ((step - 1) % stepsPerEpoch(plan)) * plan.batchSize;
    return current.order.subarray(first, Math.min(first + plan.batchSize, plan.examples));
  };
}
