// Corpus BLEU as `sacrebleu` computes it by default: 13a tokens, n-grams up to 4, exponential smoothing, one reference
// per example, case kept. Not for single sentences: one without any 4-gram scores 0.

const MAX_ORDER = 4;

/** mteval-v13a's rules in their order, for Western languages. */
const RULES: readonly [RegExp, string][] = [
  [/([{-~[-` -&(-+:-@/])/g, ' $1 '],
  [/([^0-9])([.,])/g, '$1 $2 '],
  [/([.,])([^0-9])/g, ' $1 $2'],
  [/([0-9])(-)/g, '$1 $2 '],
];

/** What Python's `str.split()` splits at, written out: JavaScript's `\s` is not the same set. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the separators \x1c-\x1f are white space to Python
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

const ENTITIES: readonly [string, string][] = [
  ['&quot;', '"'],
  ['&amp;', '&'],
  ['&lt;', '<'],
  ['&gt;', '>'],
];

export function tokenize13a(text: string): string[] {
  const plain = text.trimEnd().replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ');
  const decoded = ENTITIES.reduce((line, [entity, character]) => line.replaceAll(entity, character), plain);
  const spaced = RULES.reduce((line, [rule, replacement]) => line.replace(rule, replacement), ` ${decoded} `);
  return spaced.split(WHITE_SPACE).filter(token => token !== '');
}

function countGrams(tokens: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= tokens.length; i++) {
    const gram = tokens.slice(i, i + order).join(' ');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

function countCommon(predicted: Map<string, number>, expected: Map<string, number>): number {
  let common = 0;
  for (const [gram, count] of predicted) common += Math.min(count, expected.get(gram) ?? 0);
  return common;
}

/** Chin-Yew Lin's geometric mean, where the k-th order without any match counts 1 / (2^k total). In percent. */
function smoothedPrecisions(correct: readonly number[], total: readonly number[]): number[] {
  let smoothing = 1;
  return correct.map((matches, i) => {
    if (total[i] === 0) return 0;
    if (matches > 0) return (100 * matches) / total[i]!;
    smoothing *= 2;
    return 100 / (smoothing * total[i]!);
  });
}

/** -> 0..100; 0 for no examples. */
export function bleu(predictions: readonly string[], references: readonly string[]): number {
  const correct = new Array<number>(MAX_ORDER).fill(0);
  const total = new Array<number>(MAX_ORDER).fill(0);
  let predictedLength = 0;
  let expectedLength = 0;
  references.forEach((reference, i) => {
    const predicted = tokenize13a(predictions[i]!);
    const expected = tokenize13a(reference);
    predictedLength += predicted.length;
    expectedLength += expected.length;
    for (let order = 1; order <= MAX_ORDER; order++) {
      correct[order - 1]! += countCommon(countGrams(predicted, order), countGrams(expected, order));
      total[order - 1]! += Math.max(0, predicted.length - order + 1);
    }
  });
  if (!correct.some(count => count > 0)) return 0;
  const precisions = smoothedPrecisions(correct, total);
  const mean = precisions.reduce((sum, precision) => sum + Math.log(precision), 0) / MAX_ORDER;
  const brevity = predictedLength < expectedLength ? Math.exp(1 - expectedLength / predictedLength) : 1;
  return brevity * Math.exp(mean);
}
