// ROUGE-N: F1 of word n-grams, as google-research's `rouge-score` computes `rouge1` etc. (no stemming, one reference).
import { countCommon, countGrams } from './n-grams.ts';
import { fMeasure, words } from './rouge-l.ts';

/** -> 0..1 */
export function rougeNOf(prediction: string, reference: string, order: number): number {
  const predicted = words(prediction);
  const expected = words(reference);
  const common = countCommon(countGrams(predicted, order), countGrams(expected, order));
  return fMeasure(common, predicted.length - order + 1, expected.length - order + 1);
}
