// Exact match: the share of answers that equal their reference, white space around both aside. Case and punctuation count.

export const isExactMatch = (prediction: string, reference: string): boolean =>
  prediction.trim() === reference.trim();

/** -> 0..1; 0 for no examples. */
export function exactMatch(predictions: readonly string[], references: readonly string[]): number {
  if (references.length === 0) return 0;
  const matches = references.filter((reference, i) => isExactMatch(predictions[i]!, reference));
  return matches.length / references.length;
}
