// Whole contrastive runs: vectors that find what belongs together, runs that go on as if never stopped, folders that keep their pooling.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { RetrievalReport } from '../../src/evaluation/retrieval.ts';
import { readPooling } from '../../src/models/pooling.ts';
import { openModel } from '../../src/models/registry.ts';
import type { TrainSpec } from '../../src/training/protocol.ts';
import { collect, eventsOf, goldenModel, toySpec } from './toy-task.ts';

const WORDS = 'quick brown fox lazy dog user north cold rain food great slow order late'.split(' ');

/** Anchors and positives share two words, negatives one. */
function pairs(first: number, count: number): string {
  const word = (i: number): string => WORDS[i % WORDS.length]!;
  const lines = Array.from({ length: count }, (_, at) => {
    const i = first + at;
    const [a, b] = [word(i), word(3 * i + 1 + Math.floor(i / WORDS.length))];
    const line = { anchor: `where is ${a} ${b}`, positive: `${b} and ${a}` };
    return JSON.stringify(i % 3 ? line : { ...line, negative: `${word(i + 5)} and ${a}` });
  });
  return `${lines.join('\n')}\n`;
}

function specOf(changes: Partial<TrainSpec> = {}): TrainSpec {
  const spec = toySpec({
    engine: 'onnx',
    modelDirectory: goldenModel('bert-tiny'),
    method: { type: 'embedding' },
    ...changes,
    hyperparameters: {
      n_epochs: 6,
      batch_size: 12,
      learning_rate: 0.005,
      dropout: 0.05,
      ...changes.hyperparameters,
    },
  });
  writeFileSync(spec.trainingFile, pairs(0, 60));
  if (spec.validationFile) writeFileSync(spec.validationFile, pairs(100, 14));
  return spec;
}

test('a run learns to find, goes on bit for bit, and says what it trained', {
  timeout: 120_000,
}, async () => {
  const spec = specOf();
  const events = await collect(spec);
  const losses = eventsOf(events, 'step').map(({ metrics }) => metrics);
  expect(losses).toHaveLength(30);
  expect(losses[0]!.train_loss).toBeGreaterThan(2);
  expect(losses.at(-1)!.train_loss).toBeLessThan(0.75 * losses[0]!.train_loss);
  expect(losses.at(-1)!.train_accuracy).toBeGreaterThan(losses[0]!.train_accuracy as number);
  const { base, fine_tuned } = eventsOf(events, 'evaluation')[0]!.report as Record<string, RetrievalReport>;
  expect(fine_tuned!.mrr).toBeGreaterThan(base!.mrr + 0.1);

  const checkpoint = eventsOf(events, 'checkpoint').find(
    ({ kind, step }) => kind === 'resume' && step === 7,
  )!;
  const { trainingFile, validationFile } = spec;
  const later = await collect({
    ...specOf(),
    trainingFile,
    validationFile,
    resumeDirectory: checkpoint.directory,
  });
  expect(eventsOf(later, 'step').map(({ metrics }) => metrics)).toEqual(losses.slice(7));
  expect(eventsOf(later, 'evaluation')).toEqual(eventsOf(events, 'evaluation'));

  const { directory } = eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'model')!;
  const config = JSON.parse(readFileSync(join(directory, 'adapter_config.json'), 'utf8'));
  expect(config.task_type).toBe('FEATURE_EXTRACTION');
});

test('a model that is trained whole is pooled as its base', { timeout: 120_000 }, async () => {
  const modelDirectory = join(toySpec().workDirectory, 'bert-cls');
  mkdirSync(modelDirectory, { recursive: true });
  cpSync(goldenModel('bert-tiny'), modelDirectory, { recursive: true });
  writeFileSync(join(modelDirectory, '1_Pooling', 'config.json'), '{"pooling_mode": "cls"}');
  const hyperparameters = { adapter: 'full', n_epochs: 1, learning_rate: 0.001 } as const;
  const events = await collect(specOf({ modelDirectory, hyperparameters, validationFile: null }));
  const { directory } = eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'model')!;
  const model = await openModel(directory);
  expect(await readPooling(model)).toEqual({ mode: 'cls', normalize: true, maxTokens: 96 });
});

test('an encoder that is to write is refused', async () => {
  const failed = await collect(toySpec({ engine: 'onnx', modelDirectory: goldenModel('bert-tiny') }));
  expect(eventsOf(failed, 'failed')[0]).toMatchObject({
    code: 'invalid_model',
    message: 'bert is an encoder model: it cannot continue text',
  });
});
