// ROUGE-L: F1 of the longest common subsequence of words, as google-research's `rouge-score` computes `rougeL`
// (no stemming, one reference). Its words are runs of a-z and 0-9, so texts in other scripts score 0, here as there.

const words = (text: string): string[] => text.toLowerCase().match(/[a-z0-9]+/g) ?? [];

/** Length of the longest common subsequence, with one row of the table kept. */
function commonLength(a: readonly string[], b: readonly string[]): number {
  const row = new Uint32Array(b.length + 1);
  for (const word of a) {
    let diagonal = 0;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j]!;
      row[j] = word === b[j - 1] ? diagonal + 1 : Math.max(above, row[j - 1]!);
      diagonal = above;
    }
  }
  return row[b.length]!;
}

/** -> 0..1 */
export function rougeLOf(prediction: string, reference: string): number {
  const predicted = words(prediction);
  const expected = words(reference);
  const common = commonLength(expected, predicted);
  if (common === 0) return 0;
  const precision = common / predicted.length;
  const recall = common / expected.length;
  return (2 * precision * recall) / (precision + recall);
}

/** Mean over the examples -> 0..1; 0 for no examples. */
export function rougeL(predictions: readonly string[], references: readonly string[]): number {
  if (references.length === 0) return 0;
  const sum = references.reduce((total, reference, i) => total + rougeLOf(predictions[i]!, reference), 0);
  return sum / references.length;
}
