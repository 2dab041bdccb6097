// Fuzzy match: text similarity by character insertions and deletions, as computed by `rapidfuzz.fuzz.ratio`.
import { commonLength } from './common-subsequence.ts';

/** -> 0..1; 1 for two empty texts. */
export function fuzzyMatch(prediction: string, reference: string): number {
  const predicted = [...prediction];
  const expected = [...reference];
  const length = predicted.length + expected.length;
  return length === 0 ? 1 : (2 * commonLength(predicted, expected)) / length;
}
