// Text and classification metrics against sacrebleu, rouge-score and scikit-learn (golden.py wrote golden.json).
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { bleu, tokenize13a } from '../../src/evaluation/bleu.ts';
import { classify, findLabels, OTHER } from '../../src/evaluation/classification.ts';
import { exactMatch } from '../../src/evaluation/exact-match.ts';
import { rougeL, rougeLOf } from '../../src/evaluation/rouge-l.ts';

interface Golden {
  pairs: { prediction: string; reference: string; rouge_l: number; tokens: string[] }[];
  bleu: Record<string, { pairs: number[]; score: number }>;
  classification: {
    name: string;
    labels: string[];
    references: string[];
    predictions: string[];
    accuracy: number;
    macro: [number, number, number];
    per_class: Record<string, [number, number, number, number]>;
    confusion: number[][];
  }[];
}
const golden = JSON.parse(readFileSync(new URL('golden.json', import.meta.url), 'utf8')) as Golden;

describe('BLEU', () => {
  test.each(golden.pairs.map(pair => [pair.prediction, pair.tokens] as const))(
    '13a tokens of %j',
    (text, tokens) => {
      expect(tokenize13a(text)).toEqual(tokens);
    },
  );

  test.each(Object.entries(golden.bleu))('corpus %s', (_, { pairs, score }) => {
    const chosen = pairs.map(i => golden.pairs[i]!);
    const result = bleu(
      chosen.map(pair => pair.prediction),
      chosen.map(pair => pair.reference),
    );
    expect(result).toBeCloseTo(score, 9);
  });

  test('no examples', () => expect(bleu([], [])).toBe(0));
});

describe('ROUGE-L', () => {
  test.each(golden.pairs.map(pair => [pair.prediction, pair.reference, pair.rouge_l] as const))(
    '%j against %j',
    (prediction, reference, score) => expect(rougeLOf(prediction, reference)).toBeCloseTo(score, 12),
  );

  test('is the mean over examples', () => {
    expect(rougeL(['a b', 'x'], ['a b', 'y'])).toBe(0.5);
    expect(rougeL([], [])).toBe(0);
  });
});

describe('exact match', () => {
  test('ignores white space around, nothing else', () => {
    expect(exactMatch([' yes\n', 'Yes', 'no.', 'n o'], ['yes', 'yes', 'no', 'n o'])).toBe(0.5);
    expect(exactMatch([], [])).toBe(0);
  });
});

describe('classification', () => {
  test.each(golden.classification)('$name', expected => {
    const report = classify(expected.predictions, expected.references, expected.labels);
    expect(report.accuracy).toBeCloseTo(expected.accuracy, 12);
    expect(report.macro_precision).toBeCloseTo(expected.macro[0], 12);
    expect(report.macro_recall).toBeCloseTo(expected.macro[1], 12);
    expect(report.macro_f1).toBeCloseTo(expected.macro[2], 12);
    for (const [label, [precision, recall, f1, support]] of Object.entries(expected.per_class)) {
      expect(report.per_class[label]!.precision).toBeCloseTo(precision, 12);
      expect(report.per_class[label]!.recall).toBeCloseTo(recall, 12);
      expect(report.per_class[label]!.f1).toBeCloseTo(f1, 12);
      expect(report.per_class[label]!.support).toBe(support);
    }
    expect(report.confusion_matrix.matrix.map(row => row.slice(0, -1))).toEqual(expected.confusion);
  });

  test('an answer outside the set is wrong and has a column of its own', () => {
    const report = classify(['cat', 'unsure', ' dog '], ['cat', 'cat', 'dog'], ['cat', 'dog']);
    expect(report.confusion_matrix.columns).toEqual(['cat', 'dog', OTHER]);
    expect(report.confusion_matrix.matrix).toEqual([
      [1, 0, 1],
      [0, 1, 0],
    ]);
    expect(report.accuracy).toBeCloseTo(2 / 3, 12);
  });

  test('labels are a small set of short answers, each given more than once on average', () => {
    expect(findLabels(['b', 'a ', 'a', 'b'])).toEqual(['a', 'b']);
    expect(findLabels(['a', 'b', 'c'])).toBeNull();
    expect(findLabels(['a', 'a', 'a'])).toBeNull();
    expect(findLabels(['x'.repeat(101), 'x'.repeat(101), 'y', 'y'])).toBeNull();
    expect(findLabels([])).toBeNull();
  });
});
