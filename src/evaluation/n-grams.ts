// N-gram counts for BLEU, GLEU and ROUGE-N.

export function countGrams(tokens: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= tokens.length; i++) {
    const gram = tokens.slice(i, i + order).join(' ');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

export function countCommon(predicted: Map<string, number>, expected: Map<string, number>): number {
  let common = 0;
  for (const [gram, count] of predicted) common += Math.min(count, expected.get(gram) ?? 0);
  return common;
}
