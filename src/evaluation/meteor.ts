// METEOR of one sentence (Lavie and Agarwal, 2007), as `nltk` computes it with its defaults, on words and runs of other signs in lower
// case. Words match when they are the same, then when their stems are; WordNet's synonyms, nltk's third step, are not looked up.
import { stemmer } from 'stemmer';

const ALPHA = 0.9;
const BETA = 3;
const GAMMA = 0.5;

const tokenize = (text: string): string[] =>
  text.toLowerCase().match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]+/gu) ?? [];

/** Positions in prediction and reference. */
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

/** In the order of the prediction. */
function align(predicted: readonly string[], expected: readonly string[]): Match[] {
  const left = { predicted: new Set(predicted.keys()), expected: new Set(expected.keys()) };
  const matches: Match[] = [];
  for (const form of [(word: string) => word, stemmer]) {
    const positions = Map.groupBy(left.expected, index => form(expected[index]!));
    // From the end on, and the last of equals first: nltk's order.
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

/** Runs of matches that are next to each other in both. */
function countChunks(matches: readonly Match[]): number {
  const breaks = matches.filter(([predicted, expected], i) => {
    const before = matches[i - 1];
    return !before || before[0] + 1 !== predicted || before[1] + 1 !== expected;
  });
  return breaks.length;
}
