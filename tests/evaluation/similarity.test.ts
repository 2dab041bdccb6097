// The metrics of text_similarity against sacrebleu, rouge-score, rapidfuzz and nltk (similarity.py wrote similarity.json).
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { commonLength } from '../../src/evaluation/common-subsequence.ts';
import { type SimilarityMetric, sampleOf } from '../../src/evaluation/graders/grader.ts';
import { gradeTextSimilarity, LONGEST_TEXT } from '../../src/evaluation/graders/text-similarity.ts';

interface Pair {
  prediction: string;
  reference: string;
  scores: Record<Exclude<SimilarityMetric, 'cosine'>, number>;
}
const golden = JSON.parse(readFileSync(new URL('similarity.json', import.meta.url), 'utf8')) as Pair[];

const never = new AbortController().signal;

function similarity(
  metric: SimilarityMetric,
  prediction: string,
  reference: string,
  embed: never | null = null,
) {
  const grader = {
    type: 'text_similarity' as const,
    name: 'similar',
    input: '{{sample.output_text}}',
    reference: '{{item.reference}}',
    evaluation_metric: metric,
    pass_threshold: 0.6,
  };
  return gradeTextSimilarity(grader, { item: { reference }, sample: sampleOf(prediction) }, { embed }, never);
}

describe.each(Object.keys(golden[0]!.scores) as (keyof Pair['scores'])[])('%s', metric => {
  test.each(golden.map(pair => [pair.prediction, pair.reference, pair.scores[metric]] as const))(
    '%j against %j',
    async (prediction, reference, score) => {
      const grade = await similarity(metric, prediction, reference);
      expect(grade.score).toBeCloseTo(score, 10);
      if (Math.abs(score - 0.6) > 1e-9) expect(grade.passed).toBe(score > 0.6);
    },
  );
});

test('the common subsequence is that of the table everybody knows', () => {
  const texts = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 70 });
  fc.assert(fc.property(texts, texts, (a, b) => commonLength(a, b) === commonLengthByTable(a, b)));
});

function commonLengthByTable(a: string, b: string): number {
  const table = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      table[i]![j] =
        a[i - 1] === b[j - 1] ? table[i - 1]![j - 1]! + 1 : Math.max(table[i - 1]![j]!, table[i]![j - 1]!);
  return table[a.length]![b.length]!;
}

test('cosine is that of the embeddings, and says so where there are none', async () => {
  const vectors: Record<string, number[]> = { a: [1, 0], b: [3, 4] };
  const embed = (async (texts: string[]) => texts.map(text => vectors[text]!)) as never;
  expect((await similarity('cosine', 'a', 'b', embed)).score).toBeCloseTo(0.6, 12);
  await expect(similarity('cosine', 'a', 'b')).rejects.toThrow('no model for embeddings is configured');
});

test('longer texts than can be compared in time are refused', async () => {
  const text = 'x'.repeat(LONGEST_TEXT + 1);
  await expect(similarity('fuzzy_match', text, 'y')).rejects.toThrow('up to 50000 characters');
});
