// On every architecture: packing and accumulation change nothing but rounding, the same gradient step however a batch is cut; and a
// run that is cut after a step and goes on from what it wrote is the unbroken one, bit for bit; so is one that computes activations again.
import { beforeAll, describe, expect, it } from 'vitest';
import { type Example, rowLengths } from '../../src/data/example-form.ts';
import type { ModelKind } from '../../src/models/architecture.ts';
import { type Progress, readState, writeResume } from '../../src/training/checkpoint.ts';
import { planBatch } from '../../src/training/layout.ts';
import type { MicroBatchShape } from '../../src/training/programs.ts';
import { temporaryFolder } from '../models/folders.ts';
import { PROVEN } from '../models/proven.ts';
import { type GoldenRun, openGolden, readTrajectory, unpack } from './golden-run.ts';

const firstExamples = (name: string) =>
  readTrajectory(name, 'lora')
    .batches.flatMap(batch => unpack(batch))
    .slice(0, 8);
const texts = firstExamples('llama3');
const EXAMPLES: Record<ModelKind, Example[]> = {
  causal: texts,
  encoder: texts.map(({ sequences }, i) => ({ sequences, values: [i % 3] })),
  'encoder-decoder': firstExamples('marian'),
};

const step = (number: number) => ({
  step: number,
  learningRate: 1e-2,
  weightDecay: 0,
  maxGradNorm: 1,
  seed: 3,
});

/** One step; the loss and the numbers after it. */
async function stepWith(model: string, shapes: MicroBatchShape[], oneByOne: boolean, dropout = 0) {
  const trainer = await openGolden({ model, kind: 'lora', engine: 'onnx', shapes, dropout });
  const { objective, model: opened } = trainer.trained;
  const examples = EXAMPLES[opened.kind];
  const plan = oneByOne
    ? examples.map((_, place) => ({ shape: shapes[0]!, rows: [[place]] }))
    : planBatch(rowLengths(objective.form, examples), shapes, { hiddenSize: 32 });
  const result = await trainer.takeStep(plan, examples, step(1));
  const { m } = await trainer.readState();
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

const DROPPED = { kind: 'lora', engine: 'onnx', shapes: [{ rows: 2, length: 32 }], dropout: 0.2 } as const;

/** Steps `from` to `to` with dropout, from a state or anew; their losses, and the numbers after them. */
async function run(
  golden: Pick<GoldenRun, 'model' | 'state' | 'gradientCheckpointing'>,
  from: number,
  to: number,
) {
  const trainer = await openGolden({ ...DROPPED, ...golden });
  const { objective, model: opened } = trainer.trained;
  const examples = EXAMPLES[opened.kind];
  const plan = planBatch(rowLengths(objective.form, examples), DROPPED.shapes, { hiddenSize: 32 });
  const losses: number[] = [];
  for (let number = from; number <= to; number++)
    losses.push((await trainer.takeStep(plan, examples, step(number))).loss);
  const state = await trainer.readState();
  await trainer.close();
  return { losses, state, layout: trainer.trained.state };
}

describe.each(PROVEN)('a batch on %s', model => {
  let alone: Awaited<ReturnType<typeof stepWith>>;
  let whole: Awaited<ReturnType<typeof run>>;
  beforeAll(async () => {
    alone = await stepWith(model, [{ rows: 1, length: 24 }], true);
    whole = await run({ model }, 1, 3);
  });

  it('gives the same step packed into rows as one example at a time', async () => {
    const packed = await stepWith(model, [{ rows: 1, length: 128 }], false);
    expect(alone.runs).toBe(8);
    expect(packed.runs).toBeLessThan(3);
    expectSame(packed, alone);
  });

  it('gives the same step in eight micro-batches of one row as in one of eight', async () => {
    const one = await stepWith(model, [{ rows: 8, length: 24 }], false);
    expect(one.runs).toBe(1);
    expectSame(one, alone);
  });

  it('gives the same bits from a checkpoint as without a break, with dropout, and others without it', async () => {
    const first = await run({ model }, 1, 1);
    const [folder, progress] = [await temporaryFolder(), { step: 1, best: null } as Progress];
    const written = await writeResume(folder, first.state, progress);
    const state = await readState(written, first.layout, folder, progress);
    const rest = await run({ model, state }, 2, 3);
    expect([...first.losses, ...rest.losses]).toEqual(whole.losses);
    expect(rest.state).toEqual(whole.state);
    expect((await stepWith(model, [{ rows: 2, length: 32 }], false)).loss).not.toBe(first.losses[0]);
  });

  it('gives the same bits whether activations are kept or computed again', async () => {
    const again = await run({ model, gradientCheckpointing: true }, 1, 3);
    expect(again.losses).toEqual(whole.losses);
    expect(again.state).toEqual(whole.state);
  });
});
