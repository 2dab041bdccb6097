// ROUGE-L: F1 of the longest common subsequence of words, as google-research's `rouge-score` computes `rougeL`
// (no stemming, one reference). Its words are runs of a-z and 0-9, so texts in other scripts score 0, as with rouge-score.

import { commonLength } from './common-subsequence.ts';

export const words = (text: string): string[] => text.toLowerCase().match(/[a-z0-9]+/g) ?? [];

/** F1 from the number of common, predicted and expected elements. */
export function fMeasure(common: number, predicted: number, expected: number): number {
  if (common === 0) return 0;
  const precision = common / predicted;
  const recall = common / expected;
  return (2 * precision * recall) / (precision + recall);
}

/** -> 0..1 */
export function rougeLOf(prediction: string, reference: string): number {
  const predicted = words(prediction);
  const expected = words(reference);
  return fMeasure(commonLength(expected, predicted), predicted.length, expected.length);
}

/** Mean over the examples -> 0..1; 0 for no examples. */
export function rougeL(predictions: readonly string[], references: readonly string[]): number {
  if (references.length === 0) return 0;
  const sum = references.reduce((total, reference, i) => total + rougeLOf(predictions[i]!, reference), 0);
  return sum / references.length;
}
