// Sentence GLEU ("Google's Neural Machine Translation System", 2016), as computed by `nltk`: the minimum of precision and recall over
// all n-grams up to 4, here with sacrebleu's 13a tokenizer.
import { tokenize13a } from './bleu.ts';
import { countCommon, countGrams } from './n-grams.ts';

const ORDERS = [1, 2, 3, 4];

/** -> 0..1 */
export function gleu(prediction: string, reference: string): number {
  const predicted = tokenize13a(prediction);
  const expected = tokenize13a(reference);
  const common = (order: number): number =>
    countCommon(countGrams(predicted, order), countGrams(expected, order));
  const all = Math.max(countAll(predicted), countAll(expected));
  return all === 0 ? 0 : ORDERS.reduce((sum, order) => sum + common(order), 0) / all;
}

function countAll(tokens: readonly string[]): number {
  return ORDERS.reduce((sum, order) => sum + Math.max(0, tokens.length - order + 1), 0);
}
