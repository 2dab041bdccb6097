// Converts a head's logits to probabilities: softmax for one class, sigmoid for several; a regression's number is unchanged.
import type { Problem } from '../formats/classifier-config.ts';

function softmax(outputs: ArrayLike<number>): Float64Array {
  const highest = Math.max(...Array.from(outputs));
  const powers = Float64Array.from(outputs, output => Math.exp(output - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map(power => power / sum);
}

const sigmoids = (outputs: ArrayLike<number>): Float64Array =>
  Float64Array.from(outputs, output => 1 / (1 + Math.exp(-output)));

const PROBABILITIES: Record<Problem, (outputs: ArrayLike<number>) => Float64Array> = {
  single: softmax,
  multiple: sigmoids,
  regression: outputs => Float64Array.from(outputs),
};

/** Index of the largest value, the first among equals. */
export const largest = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((best, value, i) => (value > values[best]! ? i : best), 0);

export const probabilitiesOf = (outputs: ArrayLike<number>, problem: Problem): Float64Array =>
  PROBABILITIES[problem](outputs);
