// Exact match: the fraction of answers that equal their reference, ignoring leading and trailing white space. Case-sensitive.

export const isExactMatch = (prediction: string, reference: string): boolean =>
  prediction.trim() === reference.trim();

/** -> 0..1; 0 for no examples. */
export function exactMatch(predictions: readonly string[], references: readonly string[]): number {
  if (references.length === 0) return 0;
  const matches = references.filter((reference, i) => isExactMatch(predictions[i]!, reference));
  return matches.length / references.length;
}
