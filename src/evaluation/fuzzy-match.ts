// Fuzzy match: the similarity of two texts by insertions and deletions of characters, as `rapidfuzz.fuzz.ratio` computes it.
import { commonLength } from './common-subsequence.ts';

/** -> 0..1; two empty texts are equal. */
export function fuzzyMatch(prediction: string, reference: string): number {
  const predicted = [...prediction];
  const expected = [...reference];
  const length = predicted.length + expected.length;
  return length === 0 ? 1 : (2 * commonLength(predicted, expected)) / length;
}
