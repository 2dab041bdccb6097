// Packing and accumulation change nothing but rounding: the same gradient step however a batch is cut.
import { describe, expect, it } from 'vitest';
import { rowLengths } from '../../src/data/example-form.ts';
import { planBatch } from '../../src/training/layout.ts';
import type { MicroBatchShape } from '../../src/training/programs.ts';
import { openGolden, readTrajectory, unpack } from './golden-run.ts';

const firstExamples = (name: string) =>
  readTrajectory(name, 'lora')
    .batches.flatMap(batch => unpack(batch))
    .slice(0, 8);
const [texts, answers] = [firstExamples('llama3'), firstExamples('marian')];

/** One step; the loss and the numbers after it. */
async function stepWith(model: string, shapes: MicroBatchShape[], oneByOne: boolean, dropout = 0) {
  const trainer = await openGolden({ model, kind: 'lora', engine: 'onnx', shapes, dropout });
  const { objective, model: opened } = trainer.trained;
  const examples = opened.kind === 'encoder-decoder' ? answers : texts;
  const plan = oneByOne
    ? examples.map((_, place) => ({ shape: shapes[0]!, rows: [[place]] }))
    : planBatch(rowLengths(objective.form, examples), shapes, { hiddenSize: 32 });
  const result = await trainer.takeStep(plan, examples, {
    step: 1,
    learningRate: 1e-2,
    weightDecay: 0,
    maxGradNorm: 1,
    seed: 3,
  });
  const { m } = trainer.state;
  await trainer.close();
  return { ...result, runs: plan.length, m };
}

function expectSame(actual: Awaited<ReturnType<typeof stepWith>>, expected: typeof actual) {
  expect(actual.weight).toBe(expected.weight);
  expect(actual.score).toBe(expected.score);
  expect(actual.loss / expected.loss).toBeCloseTo(1, 5);
  expect(actual.gradientNorm / expected.gradientNorm).toBeCloseTo(1, 5);
  const largest = Math.max(...expected.m.map(Math.abs));
  expected.m.forEach((value, i) => {
    if (Math.abs(actual.m[i]! - value) > 2e-5 * largest)
      expect.fail(`gradient ${i}: ${actual.m[i]}, not ${value}`);
  });
}

const MODELS = [
  'llama3',
  'gpt2',
  'gpt-neox',
  'falcon-40b',
  'mixtral',
  'gemma2',
  'gemma3',
  'phi3',
  'cohere',
  't5-v1.1',
  'bart',
  'marian',
];

describe.each(MODELS)('a batch on %s', model => {
  it('gives the same step packed into rows as one example at a time', async () => {
    const alone = await stepWith(model, [{ rows: 1, length: 24 }], true);
    const packed = await stepWith(model, [{ rows: 1, length: 128 }], false);
    expect(alone.runs).toBe(8);
    expect(packed.runs).toBeLessThan(3);
    expectSame(packed, alone);
  });

  it('gives the same step in eight micro-batches of one row as in one of eight', async () => {
    const eight = await stepWith(model, [{ rows: 1, length: 24 }], true);
    const one = await stepWith(model, [{ rows: 8, length: 24 }], false);
    expect(one.runs).toBe(1);
    expectSame(one, eight);
  });

  it('gives the same bits twice, with dropout too, and other numbers without it', async () => {
    const shapes = [{ rows: 2, length: 32 }];
    const first = await stepWith(model, shapes, false, 0.2);
    const second = await stepWith(model, shapes, false, 0.2);
    expect(second.m).toEqual(first.m);
    expect(second.loss).toBe(first.loss);
    expect((await stepWith(model, shapes, false)).loss).not.toBe(first.loss);
  });
});
