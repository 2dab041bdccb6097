// Which methods a model can be trained by, as its row tells it, against what opening the golden models for every method says.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { KINDS } from '../../src/models/architecture.ts';
import { ModelError } from '../../src/models/model-error.ts';
import { architectureOf, openModel } from '../../src/models/registry.ts';
import { answersOf, methodsFor } from '../../src/training/methods.ts';
import { modelTask, openObjective } from '../../src/training/objectives.ts';
import type { Method } from '../../src/training/protocol.ts';
import { causalClassifier } from '../models/folders.ts';
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
  const answers = found.kind === 'encoder' ? 'vectors' : 'text';
  const fitting = methodsFor({ architecture, answers, isAdapter: false, trainedBy: null });
  expect(fitting).toEqual(METHODS.map(({ type }) => type).filter((_, i) => open[i]));
});

test('a model with a head writes no tokens; in an adapter the head stays with it', () => {
  const of = (architecture: string, isAdapter: boolean) =>
    methodsFor({ architecture, answers: 'text', isAdapter, trainedBy: 'classification' });
  expect(of('llama', true)).toEqual(['classification', 'regression']);
  expect(of('llama', false)).toEqual(['classification', 'regression', 'embedding']);
  expect(of('t5', false)).toEqual(['classification', 'regression']);
  const trained = { answers: 'text', isAdapter: true, trainedBy: 'supervised' } as const;
  expect(methodsFor({ architecture: 'llama', ...trained })).toContain('dpo');
});

test('a classifier that is a base model writes no tokens either', async () => {
  const folder = await causalClassifier('llama-tiny');
  const open = await Promise.all(METHODS.map(method => opens(folder, method)));
  const base = { architecture: 'llama', answers: 'classes', isAdapter: false, trainedBy: null } as const;
  expect(methodsFor(base)).toEqual(METHODS.map(({ type }) => type).filter((_, i) => open[i]));
  expect(methodsFor(base)).not.toContain('supervised');
  expect(methodsFor({ ...base, isAdapter: true, trainedBy: 'embedding' })).not.toContain('supervised');
});

test.each([
  ['llama', 'text', null, ['text']],
  ['llama', 'text', 'dpo', ['text']],
  ['llama', 'text', 'classification', ['classes']],
  ['llama', 'text', 'embedding', ['text']],
  ['llama', 'classes', null, ['classes']],
  ['llama', 'classes', 'embedding', ['vectors']],
  ['llama', null, null, ['text', 'classes', 'vectors']],
  ['bert', 'vectors', null, ['vectors']],
  ['bert', 'classes', null, ['classes']],
  ['bert', 'classes', 'embedding', ['vectors']],
  ['bert', 'vectors', 'regression', ['classes']],
  ['bert', null, null, ['classes', 'vectors']],
  ['mamba', null, null, ['text', 'classes', 'vectors']],
] as const)(
  '%s whose files answer with %s, trained by %s: %j',
  (architecture, answers, trainedBy, expected) => {
    expect(answersOf({ architecture, answers, trainedBy })).toEqual(expected);
  },
);

test('an architecture that is not known is not judged', () => {
  expect(methodsFor({ architecture: 'mamba', answers: null, isAdapter: false, trainedBy: null })).toBeNull();
});
