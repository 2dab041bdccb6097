// Evaluation by generation on a tiny model: what is asked, what is counted, and that base and adapter are told apart.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { evaluationPrompt } from '../../src/data/examples.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { type EvaluationRequest, evaluateByGeneration } from '../../src/evaluation/generate.ts';
import { writeAdapter } from '../../src/formats/peft.ts';
import { initialLora } from '../../src/models/lora.ts';
import { openModel } from '../../src/models/registry.ts';
import { Generator } from '../../src/serving/generator.ts';
import { GREEDY } from '../../src/serving/sampling.ts';

const golden = (name: string) => join(import.meta.dirname, '../golden', name);
const directory = golden('llama-tiny');
let engine: Engine;
let folder: string;
beforeAll(async () => {
  engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
  folder = await mkdtemp(join(tmpdir(), 'anneal-evaluation-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const line = (question: string, answer: string) => ({
  messages: [
    { role: 'user' as const, content: question },
    { role: 'assistant' as const, content: answer },
  ],
});

async function writeLines(name: string, lines: object[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, lines.map(each => `${JSON.stringify(each)}\n`).join(''));
  return path;
}

async function makeAdapter(name: string, strength: number): Promise<string> {
  const { linearLayers } = await openModel(directory);
  let seed = 3;
  const uniform = () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647;
  };
  const layers = linearLayers.map(layer => {
    const b = Float32Array.from({ length: layer.outFeatures * 2 }, () => (uniform() - 0.5) * strength);
    return [layer.name, { a: initialLora(layer, 2, uniform).a, b }] as const;
  });
  const path = join(folder, name);
  const shape = { rank: 2, alpha: 4, dropout: 0, baseModel: 'llama-tiny' };
  await writeAdapter(path, { ...shape, linearLayers, layers: Object.fromEntries(layers) });
  return path;
}

const evaluate = (
  request: Pick<EvaluationRequest, 'fineTuned' | 'validationFile'> & Partial<EvaluationRequest>,
) => evaluateByGeneration({ engine, modelDirectory: directory, ...request });

/** What the model says to a line, asked by itself. */
async function say(question: string): Promise<string> {
  const tokenizer = await loadTokenizer(directory);
  const generator = new Generator(engine, await openModel(directory));
  const tokens: number[] = [];
  await generator.generate({
    prompt: evaluationPrompt(line(question, 'x'), tokenizer)!.tokens,
    adapter: null,
    maxTokens: 5,
    sampling: GREEDY,
    choice: 0,
    stopTokens: tokenizer.eosIds,
    topLogprobs: null,
    onToken: token => {
      tokens.push(token);
      return false;
    },
  });
  await generator.close();
  return tokenizer.decode(tokens);
}

test('an adapter that changes nothing scores as its base, one that changes something differs', async () => {
  const lines = Array.from({ length: 12 }, (_, i) => line(`Question ${i}?`, i % 2 ? 'positive' : 'negative'));
  const validationFile = await writeLines('labels.jsonl', lines);
  const progress: number[] = [];
  const same = await evaluate({
    validationFile,
    fineTuned: { kind: 'adapter', directory: await makeAdapter('nothing', 0) },
    onProgress: (done, total) => progress.push(done / total),
  });
  expect(same!.fine_tuned).toEqual(same!.base);
  expect(same).toMatchObject({
    validation_examples: 12,
    evaluated_examples: 12,
    skipped_examples: 0,
    labels: ['negative', 'positive'],
  });
  expect(same!.base.classification!.confusion_matrix.matrix.flat().reduce((a, b) => a + b)).toBe(12);
  expect(progress.length).toBe(24);
  expect(progress.at(-1)).toBe(1);
  expect(same!.examples.length).toBe(8);
  expect(same!.examples[0]).toMatchObject({ prompt: 'Question 0?', reference: 'negative' });

  const other = await evaluate({
    validationFile,
    fineTuned: { kind: 'adapter', directory: await makeAdapter('something', 1) },
  });
  expect(other!.base).toEqual(same!.base);
  expect(other!.fine_tuned.loss).not.toBe(other!.base.loss);
});

test('references that the model gives by itself are exact matches', async () => {
  const questions = ['One?', 'Two?', 'Three?', 'Four?'];
  const answers = await Promise.all(questions.map(say));
  const lines = questions.map((question, i) => line(question, i === 3 ? 'something else' : answers[i]!));
  const report = await evaluate({
    validationFile: await writeLines('matches.jsonl', lines),
    fineTuned: { kind: 'full', directory },
  });
  // The model does not end its turn after five tokens: only what it has said up to the limit is compared.
  expect(report!.examples.map(each => each.base.startsWith(each.reference.trimEnd()))).toEqual([
    true,
    true,
    true,
    false,
  ]);
  expect(report!.labels).toBeNull();
  expect(report!.base.classification).toBeNull();
  expect(report!.fine_tuned).toEqual(report!.base);
  expect(report!.base.rouge_l).toBeGreaterThanOrEqual(0);
});

test("loss and token accuracy are transformers' on the learnt tokens", async () => {
  const validationFile = await writeLines('loss.jsonl', [
    line('Hello', 'Good day'),
    line('Rain?', 'It is cold'),
  ]);
  const report = await evaluate({ validationFile, fineTuned: { kind: 'full', directory } });
  // By transformers 5 on the same folder: see golden-loss.py beside this file.
  expect(report!.base.loss).toBeCloseTo(6.46077435987996, 4);
  expect(report!.base.token_accuracy).toBe(0);
});

test('lines are taken evenly from a long file, those that cannot be asked are counted', async () => {
  const lines: object[] = Array.from({ length: 40 }, (_, i) => line(`Q${i}`, `A${i}`));
  lines[8] = line('x '.repeat(400), 'too long');
  lines[16] = {
    messages: [
      { role: 'user', content: 'call' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ type: 'function', function: { name: 'f', arguments: '{}' } }],
      },
    ],
  };
  const report = await evaluate({
    validationFile: await writeLines('long.jsonl', lines),
    fineTuned: { kind: 'full', directory },
    maxExamples: 5,
  });
  expect(report).toMatchObject({ validation_examples: 40, evaluated_examples: 3, skipped_examples: 2 });
  expect(report!.examples.map(({ reference }) => reference)).toEqual(['A0', 'A24', 'A32']);
});

test('prompt and completion lines, and an abort', async () => {
  const validationFile = await writeLines('plain.jsonl', [
    { prompt: 'The quick brown', completion: ' fox' },
    { prompt: 'The lazy', completion: ' dog' },
  ]);
  const report = await evaluate({ validationFile, fineTuned: { kind: 'full', directory } });
  expect(report!.examples[0]).toMatchObject({ prompt: 'The quick brown', reference: ' fox' });
  const signal = AbortSignal.abort(new Error('stopped'));
  await expect(evaluate({ validationFile, fineTuned: { kind: 'full', directory }, signal })).rejects.toThrow(
    'stopped',
  );
});
