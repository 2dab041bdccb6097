// Corpus BLEU with `sacrebleu`'s defaults: 13a tokenizer, n-grams up to 4, exponential smoothing, one reference per example,
// case-sensitive; and BLEU of a sentence, like its `sentence_bleu`.
import { countCommon, countGrams } from './n-grams.ts';

const MAX_ORDER = 4;

/** The rules of mteval-v13a in order, for Western languages. */
const RULES: readonly [RegExp, string][] = [
  [/([{-~[-` -&(-+:-@/])/g, ' $1 '],
  [/([^0-9])([.,])/g, '$1 $2 '],
  [/([.,])([^0-9])/g, ' $1 $2'],
  [/([0-9])(-)/g, '$1 $2 '],
];

/** White space of Python's `str.split()`, which differs from JavaScript's `\s`. */
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

/** Precisions in percent, with Chin-Yew Lin's smoothing: the k-th order without a match counts as 1 / (2^k total). */
function smoothedPrecisions(correct: readonly number[], total: readonly number[]): number[] {
  let smoothing = 1;
  return correct.map((matches, i) => {
    if (total[i] === 0) return 0;
    if (matches > 0) return (100 * matches) / total[i]!;
    smoothing *= 2;
    return 100 / (smoothing * total[i]!);
  });
}

interface Counts {
  /** By n-gram order, from 1. */
  correct: number[];
  total: number[];
  predictedLength: number;
  expectedLength: number;
}

function count(predictions: readonly string[], references: readonly string[]): Counts {
  const counts: Counts = {
    correct: new Array<number>(MAX_ORDER).fill(0),
    total: new Array<number>(MAX_ORDER).fill(0),
    predictedLength: 0,
    expectedLength: 0,
  };
  references.forEach((reference, i) => {
    const predicted = tokenize13a(predictions[i]!);
    const expected = tokenize13a(reference);
    counts.predictedLength += predicted.length;
    counts.expectedLength += expected.length;
    for (let order = 1; order <= MAX_ORDER; order++) {
      counts.correct[order - 1]! += countCommon(countGrams(predicted, order), countGrams(expected, order));
      counts.total[order - 1]! += Math.max(0, predicted.length - order + 1);
    }
  });
  return counts;
}

/** Geometric mean of the precisions up to `order`, times the brevity penalty. */
function score({ correct, total, predictedLength, expectedLength }: Counts, order: number): number {
  if (!correct.some(matches => matches > 0)) return 0;
  const precisions = smoothedPrecisions(correct, total).slice(0, order);
  const mean = precisions.reduce((sum, precision) => sum + Math.log(precision), 0) / order;
  const brevity = predictedLength < expectedLength ? Math.exp(1 - expectedLength / predictedLength) : 1;
  return brevity * Math.exp(mean);
}

/** -> 0..100; 0 for no examples, or if none has a 4-gram. */
export function bleu(predictions: readonly string[], references: readonly string[]): number {
  return score(count(predictions, references), MAX_ORDER);
}

/** -> 0..100; without n-grams longer than the sentence. */
export function sentenceBleu(prediction: string, reference: string): number {
  const counts = count([prediction], [reference]);
  return score(counts, counts.total.filter(total => total > 0).length);
}
