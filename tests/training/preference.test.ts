// Direct preference optimization against PyTorch's numbers: one loss with its gradients, and twenty steps.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Example, tokensOf } from '../../src/data/example-form.ts';
import type { EngineName } from '../../src/engine/engine.ts';
import { tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { planBatch } from '../../src/training/layout.ts';
import { preference } from '../../src/training/objectives/preference.ts';
import type { TrainSpec } from '../../src/training/protocol.ts';
import { viewsOf } from '../../src/training/state.ts';
import { relativeDifference } from '../models/golden.ts';
import { type GoldenRun, golden, openGolden, ourName } from './golden-run.ts';
import { collect, eventsOf, toySpec } from './toy-task.ts';

interface Pair {
  prompt: number[];
  chosen: number[];
  rejected: number[];
}

const read = (name: string) => JSON.parse(readFileSync(join(golden('llama3'), `${name}.json`), 'utf8'));

const engines: EngineName[] = ['cpu', 'onnx', ...(tensorflowIsSetUp() ? ['tensorflow' as const] : [])];
/** Pairs share rows of the first; the longest pair fits. */
const SHAPES = [
  { rows: 2, length: 48 },
  { rows: 1, length: 32 },
];

function toExample({ prompt, chosen, rejected }: Pair, values: number[] = []): Example {
  const sequence = (answer: number[]) => ({
    tokens: Int32Array.from([...prompt, ...answer]),
    trained: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
  });
  return { sequences: [sequence(chosen), sequence(rejected)], values };
}

const open = (kind: 'lora' | 'full', engine: EngineName, beta: number) =>
  openGolden({
    model: 'llama3',
    kind,
    engine,
    shapes: SHAPES,
    objective: model => preference(model, beta),
  } satisfies GoldenRun);

const NO_STEP = { step: 1, learningRate: 0, weightDecay: 0, maxGradNorm: 1e9, seed: 0 };

describe.each(engines)('on %s', { timeout: 120_000 }, engine => {
  it('has the loss and the accuracy of a policy and its reference', async () => {
    const { beta, pairs, reference, loss, accuracy } = read('dpo');
    const trainer = await open('lora', engine, beta);
    const examples = pairs.map((pair: Pair, i: number) =>
      toExample(pair, [reference[i][0] - reference[i][1]]),
    );
    const sums = await trainer.measureLoss(examples);
    expect(Math.abs(sums.loss / sums.weight - loss)).toBeLessThan(1e-5);
    expect(sums.count).toBe(pairs.length);
    expect(sums.score / sums.count).toBeCloseTo(accuracy);
    await trainer.close();
  });

  it('has the gradients, whose norm a step tells', async () => {
    const { beta, pairs, reference } = read('dpo');
    const trainer = await open('lora', engine, beta);
    const examples: Example[] = pairs.map((pair: Pair, i: number) =>
      toExample(pair, [reference[i][0] - reference[i][1]]),
    );
    const plan = planBatch(examples.map(tokensOf), SHAPES, { hiddenSize: 8 });
    await trainer.takeStep(plan, examples, NO_STEP);
    // At the first step m is a tenth of the gradient.
    const moments = viewsOf((await trainer.readState()).m, trainer.trained.state);
    const { tensors } = await readHeader(join(golden('llama3'), 'dpo.safetensors'));
    for (const [name, stored] of Object.entries(tensors)) {
      const gradient = moments[ourName(name)]!.map(moment => moment * 10);
      expect(relativeDifference(gradient, await readTensor(stored)), name).toBeLessThan(1e-4);
    }
    await trainer.close();
  });

  it.each(['lora', 'full'] as const)('takes the same twenty steps: %s', async kind => {
    const { beta, batches, steps } = read(`dpo-trajectory-${kind}`);
    const trainer = await open(kind, engine, beta);
    const bare: Example[][] = batches.map((pairs: Pair[]) => pairs.map(pair => toExample(pair)));
    const reference = await trainer.openReference(await trainer.readParameters());
    const start: number[] = [];
    for (const examples of bare) start.push(...(await reference.measure(examples)).map(([first]) => first!));
    await reference.close();
    const compared = bare.map((examples, batch) =>
      examples.map((example, i) => ({ ...example, values: [start[batch * examples.length + i]!] })),
    );
    for (const [index, expected] of steps.entries()) {
      const examples = compared[index % compared.length]!;
      const plan = planBatch(examples.map(tokensOf), SHAPES, { hiddenSize: 8 });
      const result = await trainer.takeStep(plan, examples, {
        step: index + 1,
        learningRate: expected.learning_rate,
        weightDecay: 0.1,
        maxGradNorm: 1.5,
        seed: 0,
      });
      const off = (actual: number, wanted: number) => Math.abs(actual / wanted - 1);
      expect(off(result.loss / result.weight, expected.loss), `loss ${index + 1}`).toBeLessThan(1e-4);
      expect(off(result.gradientNorm, expected.gradient_norm), `norm ${index + 1}`).toBeLessThan(1e-4);
    }
    const { tensors } = await readHeader(join(golden('llama3'), `dpo-trajectory-${kind}.safetensors`));
    const views = viewsOf(await trainer.readParameters(), trainer.trained.state);
    for (const [name, stored] of Object.entries(tensors))
      expect(relativeDifference(views[ourName(name)]!, await readTensor(stored)), name).toBeLessThan(1e-4);
    await trainer.close();
  });
});

describe('a run', { timeout: 120_000 }, () => {
  const COLORS = ['red', 'green', 'blue'];
  const line = (index: number) => ({
    input: {
      messages: [{ role: 'user', content: `${COLORS[index % 3]![0]} ${'abcdefgh'.slice(0, index % 7)}` }],
    },
    preferred_output: [{ role: 'assistant', content: COLORS[index % 3] }],
    non_preferred_output: [{ role: 'assistant', content: COLORS[(index + 1) % 3] }],
  });

  function spec(changes: Partial<TrainSpec> = {}): TrainSpec {
    const made = toySpec({
      method: { type: 'dpo' },
      engine: 'onnx',
      hyperparameters: { n_epochs: 4, batch_size: 6, rank: 4, learning_rate: 0.01, beta: 0.5 },
      ...changes,
    });
    const lines = (first: number, count: number) =>
      Array.from({ length: count }, (_, i) => `${JSON.stringify(line(first + i))}\n`).join('');
    writeFileSync(made.trainingFile, lines(0, 24));
    writeFileSync(made.validationFile!, lines(100, 6));
    return made;
  }

  it('starts at log 2, learns what is preferred, and says so in metrics and in its report', async () => {
    const events = await collect(spec());
    const { hyperparameters } = eventsOf(events, 'prepared')[0]!;
    expect(hyperparameters).toMatchObject({ beta: 0.5, learning_rate: 0.01 });
    const steps = eventsOf(events, 'step').map(({ metrics }) => metrics);
    expect(steps[0]!.train_loss).toBeCloseTo(Math.LN2, 5);
    expect(steps.at(-1)).toMatchObject({ train_reward_accuracy: 1, full_valid_reward_accuracy: 1 });
    expect(steps.at(-1)!.full_valid_loss).toBeLessThan(0.2);
    const { report } = eventsOf(events, 'evaluation')[0]!;
    expect(report).toMatchObject({ evaluated_examples: 6, validation: { reward_accuracy: 1 } });
  });

  it('goes on from a checkpoint with the same losses, bit for bit', async () => {
    const whole = spec({ checkpointSeconds: 0 });
    const events = await collect(whole);
    const { directory, step } = eventsOf(events, 'checkpoint').find(({ kind }) => kind === 'resume')!;
    const workDirectory = `${whole.workDirectory}-elsewhere`;
    const later = await collect({ ...whole, workDirectory, resumeDirectory: directory });
    const losses = (some: typeof events) => eventsOf(some, 'step').map(({ metrics }) => metrics);
    expect(losses(later)).toEqual(losses(events).slice(step));
    expect(losses(later).length).toBeGreaterThan(4);
  });

  it('has a beta and a rate of its own where none is given', async () => {
    const given = spec({ hyperparameters: { n_epochs: 1, beta: 'auto' } });
    delete given.hyperparameters.learning_rate;
    const dpo = eventsOf(await collect(given), 'prepared')[0]!.hyperparameters;
    expect(dpo.beta).toBe(0.1);
    expect(dpo.learning_rate).toBeCloseTo(2e-4);
  });
});
