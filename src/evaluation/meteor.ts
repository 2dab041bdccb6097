// Sentence METEOR (Lavie and Agarwal, 2007), as computed by `nltk` with its defaults, on lower-cased words and runs of other
// characters. Matches equal words, then equal stems; nltk's third stage, WordNet synonyms, is not implemented.
import { stemmer } from 'stemmer';

const ALPHA = 0.9;
const BETA = 3;
const GAMMA = 0.5;

const tokenize = (text: string): string[] =>
  text.toLowerCase().match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]+/gu) ?? [];

/** Token indices in prediction and reference. */
type Match = [predicted: number, expected: number];

/** -> 0..1 */
export function meteor(prediction: string, reference: string): number {
  const predicted = tokenize(prediction);
  const expected = tokenize(reference);
  const matches = align(predicted, expected);
  if (matches.length === 0) return 0;
  const precision = matches.length / predicted.length;
  const recall = matches.length / expected.length;
  const mean = (precision * recall) / (ALPHA * precision + (1 - ALPHA) * recall);
  return (1 - GAMMA * (countChunks(matches) / matches.length) ** BETA) * mean;
}

/** Matches, in the order of the prediction. */
function align(predicted: readonly string[], expected: readonly string[]): Match[] {
  const left = { predicted: new Set(predicted.keys()), expected: new Set(expected.keys()) };
  const matches: Match[] = [];
  for (const form of [(word: string) => word, stemmer]) {
    const positions = Map.groupBy(left.expected, index => form(expected[index]!));
    // Backwards, and the last of equal tokens first, like nltk.
    for (const index of [...left.predicted].reverse()) {
      const other = positions.get(form(predicted[index]!))?.pop();
      if (other === undefined) continue;
      matches.push([index, other]);
      left.predicted.delete(index);
      left.expected.delete(other);
    }
  }
  return matches.sort(([a], [b]) => a - b);
}

/** Number of runs of matches that are adjacent in both. */
function countChunks(matches: readonly Match[]): number {
  const breaks = matches.filter(([predicted, expected], i) => {
    const before = matches[i - 1];
    return !before || before[0] + 1 !== predicted || before[1] + 1 !== expected;
  });
  return breaks.length;
}
