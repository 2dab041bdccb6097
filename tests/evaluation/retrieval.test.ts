// Retrieval metrics against sentence-transformers (tests/golden/retrieval.py), and the report of a whole evaluation.
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import { evaluateRetrieval } from '../../src/evaluation/evaluate-retrieval.ts';
import { type RetrievalReport, ranksOf, retrievalReport } from '../../src/evaluation/retrieval.ts';
import { openModel } from '../../src/models/registry.ts';
import { golden, writeRandomAdapter } from '../serving/serving.ts';

const fixture: { corpus: number[][]; queries: number[][]; relevant: number[][]; report: RetrievalReport } =
  JSON.parse(readFileSync(golden('retrieval.json'), 'utf8'));

test('recall, MRR and nDCG are those of sentence-transformers', () => {
  const corpus = fixture.corpus.map(vector => Float32Array.from(vector));
  const ranks = fixture.queries.map((vector, i) =>
    ranksOf({ vector: Float32Array.from(vector), relevant: new Set(fixture.relevant[i]) }, corpus),
  );
  const report = retrievalReport(ranks);
  for (const [name, expected] of Object.entries(fixture.report))
    expect(report[name as keyof RetrievalReport], name).toBeCloseTo(expected, 6);
});

test('of equal scores the first in the corpus is the better', () => {
  const vector = Float32Array.of(1, 0);
  const corpus = [Float32Array.of(0, 1), Float32Array.of(0, 1), Float32Array.of(1, 0)];
  expect(ranksOf({ vector, relevant: new Set([1, 2]) }, corpus)).toEqual([1, 3]);
});

test('an evaluation reports the base and the fine-tuned model over the same texts', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-retrieval-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const modelDirectory = golden('bert-tiny');
  await writeRandomAdapter(await openModel(modelDirectory), join(folder, 'adapter'), 3);
  const validationFile = join(folder, 'validation.jsonl');
  const lines = [
    { anchor: 'the quick brown fox', positive: 'the quick brown fox', negative: 'rain' },
    { anchor: 'the quick brown fox', positive: 'the lazy dog' },
    { anchor: 'weather', positive: 'rain' },
  ];
  await writeFile(validationFile, lines.map(line => JSON.stringify(line)).join('\n'));
  const report = await evaluateRetrieval({
    engine: await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 }),
    modelDirectory,
    fineTuned: { kind: 'adapter', directory: join(folder, 'adapter') },
    validationFile,
    maxLength: 96,
    signal: new AbortController().signal,
  });
  expect(report).toMatchObject({ validation_examples: 3, evaluated_examples: 3, queries: 2, corpus: 3 });
  const { base, fine_tuned, examples } = report as {
    base: RetrievalReport;
    fine_tuned: RetrievalReport;
    examples: { base_rank: number }[];
  };
  // A text finds itself first, whatever the model.
  expect(examples[0]).toMatchObject({ base_rank: 1, fine_tuned_rank: 1 });
  for (const { recall_at_5, mrr } of [base, fine_tuned]) {
    expect(recall_at_5).toBe(1);
    expect(mrr).toBeGreaterThan(0.5);
  }
});
