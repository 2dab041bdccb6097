// Which methods a model can be trained by, as its row tells it, against what opening the golden models for every method says.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { KINDS } from '../../src/models/architecture.ts';
import { ModelError } from '../../src/models/model-error.ts';
import { architectureOf, openModel } from '../../src/models/registry.ts';
import { methodsFor } from '../../src/training/methods.ts';
import { modelTask, openObjective } from '../../src/training/objectives.ts';
import type { Method } from '../../src/training/protocol.ts';
import { goldenModel } from './toy-task.ts';

const GRADER = { type: 'string_check', name: 'x', input: 'a', reference: 'b', operation: 'eq' } as const;
const METHODS: Method[] = [
  { type: 'supervised' },
  { type: 'dpo' },
  { type: 'reinforcement', grader: GRADER },
  { type: 'classification' },
  { type: 'regression' },
  { type: 'embedding' },
];

const FOLDERS: Record<keyof typeof KINDS, string> = {
  llama: 'llama3',
  gpt2: 'gpt2',
  'gpt-neox': 'gpt-neox',
  falcon: 'falcon-7b',
  mixtral: 'mixtral',
  gemma: 'gemma2',
  phi3: 'phi3',
  cohere: 'cohere',
  bert: 'bert',
  distilbert: 'distilbert',
  modernbert: 'modernbert',
  t5: 't5',
  bart: 'bart',
  marian: 'marian',
};

const trainingFile = join(mkdtempSync(join(tmpdir(), 'anneal-methods-')), 'labels.jsonl');
writeFileSync(trainingFile, '{"input":"a","label":"x"}\n{"input":"b","label":"y"}\n');

/** Whether a run of the method would begin. */
async function opens(modelDirectory: string, method: Method): Promise<boolean> {
  const tokenizer = await loadTokenizer(goldenModel('llama-tiny'));
  try {
    const model = await openModel(modelDirectory, modelTask(method.type));
    const start = { model, tokenizer, adapter: null, adapterDirectory: null, hyperparameters: {} };
    await openObjective({ ...start, method, trainingFile });
    return true;
  } catch (error) {
    if (error instanceof ModelError) return false;
    throw error;
  }
}

test.each(Object.entries(FOLDERS))('%s', async (architecture, folder) => {
  const config = JSON.parse(readFileSync(join(goldenModel(folder), 'config.json'), 'utf8'));
  const found = architectureOf(config).architecture;
  expect(found.name).toBe(architecture);
  expect(KINDS[found.name]).toBe(found.kind);
  const open = await Promise.all(METHODS.map(method => opens(goldenModel(folder), method)));
  const fitting = methodsFor({ architecture, isAdapter: false, trainedBy: null });
  expect(fitting).toEqual(METHODS.map(({ type }) => type).filter((_, i) => open[i]));
});

test('a model with a head writes no tokens; in an adapter the head stays with it', () => {
  const of = (architecture: string, isAdapter: boolean) =>
    methodsFor({ architecture, isAdapter, trainedBy: 'classification' });
  expect(of('llama', true)).toEqual(['classification', 'regression']);
  expect(of('llama', false)).toEqual(['classification', 'regression', 'embedding']);
  expect(of('t5', false)).toEqual(['classification', 'regression']);
  expect(methodsFor({ architecture: 'llama', isAdapter: true, trainedBy: 'supervised' })).toContain('dpo');
});

test('an architecture that is not known is not judged', () => {
  expect(methodsFor({ architecture: 'mamba', isAdapter: false, trainedBy: null })).toBeNull();
});
