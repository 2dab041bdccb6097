// Heads for classes and numbers against transformers, PEFT and PyTorch: outputs, losses, gradients, and twenty AdamW steps.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Example, tokensOf } from '../../src/data/example-form.ts';
import type { LabelSet } from '../../src/data/labels.ts';
import { openEngine } from '../../src/engine/engine.ts';
import type { Problem } from '../../src/formats/classifier-config.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { planBatch } from '../../src/training/layout.ts';
import { classification, classWeights } from '../../src/training/objectives/classification.ts';
import type { Objective } from '../../src/training/objectives/objective.ts';
import { regression } from '../../src/training/objectives/regression.ts';
import { openHead, type TextOutputs } from '../../src/training/objectives/text-outputs.ts';
import { AFTER, BEFORE, gradientProgram, PARAMETER } from '../../src/training/programs.ts';
import { viewsOf } from '../../src/training/state.ts';
import { stateLayoutOf, type Tuning } from '../../src/training/trainable.ts';
import { openTrainer } from '../../src/training/trainer.ts';
import { relativeDifference } from '../models/golden.ts';
import { golden } from './golden-run.ts';

interface Golden {
  model: string;
  problem: Problem;
  kind: 'lora' | 'full';
  weights: number[] | null;
  rank: number;
  alpha: number;
  labels: string[];
  examples: { tokens: number[]; target: number[] }[];
  logits: number[][];
  loss: number;
  optimizer: { learning_rate: number; weight_decay: number; max_grad_norm: number; batch: number };
  without_gradient: string[];
  steps: { loss: number; gradient_norm: number }[];
}

const HEADS = golden('heads');
const SHAPES = [
  { rows: 2, length: 24 },
  { rows: 1, length: 32 },
];

async function readGolden(name: string) {
  const fixture: Golden = JSON.parse(readFileSync(join(HEADS, name, 'golden.json'), 'utf8'));
  const { tensors } = await readHeader(join(HEADS, name, 'golden.safetensors'));
  const entries = await Promise.all(
    Object.entries(tensors).map(async ([key, stored]) => [key, await readTensor(stored)] as const),
  );
  const under = (prefix: string) =>
    Object.fromEntries(
      entries
        .filter(([key]) => key.startsWith(`${prefix}.`))
        .map(([key, values]) => [key.slice(prefix.length + 1), values]),
    );
  return { fixture, start: under('start'), gradients: under('gradient'), final: under('final') };
}

const toExample = ({ tokens, target }: Golden['examples'][number]): Example => ({
  sequences: [{ tokens: Int32Array.from(tokens), trained: new Uint8Array(tokens.length).fill(1) }],
  values: target,
});

function objectiveOf({ problem, labels, weights }: Golden, outputs: TextOutputs): Objective {
  if (problem === 'regression') return regression(outputs, '');
  const set: LabelSet = { multiple: problem === 'multiple', labels, lines: 0, counts: new Map() };
  return classification(outputs, set, weights);
}

async function openGolden(name: string, engineName: 'cpu' | 'onnx') {
  const { fixture, start, gradients, final } = await readGolden(name);
  const { problem, labels, kind, rank, alpha } = fixture;
  const model = await openModel(golden(fixture.model), 'sequence');
  const outputs = await openHead(
    { model, adapter: null, adapterDirectory: null },
    { problem, labels, reads: 'input' },
  );
  const objective = objectiveOf(fixture, outputs);
  const layers = model.linearLayers.filter(layer => start[`${layer.name}.lora_A`]);
  const tuning: Tuning = kind === 'full' ? { kind } : { kind, layers, rank, alpha, dropout: 0 };
  const layout = stateLayoutOf(model, tuning, objective);
  const parameters = new Float32Array(layout.size);
  const views = viewsOf(parameters, layout);
  expect(Object.keys(views).sort()).toEqual(Object.keys(start).sort());
  for (const [parameter, values] of Object.entries(start)) views[parameter]!.set(values);
  const trained = { model, tuning, objective, state: layout };
  const engine = await openEngine({ engine: engineName, device: 'cpu', threads: 1 });
  const trainer = await openTrainer({
    engine,
    trained,
    state: { parameters, m: new Float32Array(layout.size), v: new Float32Array(layout.size) },
    costs: { hiddenSize: model.shape.hiddenSize },
    shapes: () => SHAPES,
    between: async () => {},
  });
  return { fixture, gradients, final, trained, engine, trainer, examples: fixture.examples.map(toExample) };
}

describe('balanced class weights', () => {
  const set = (multiple: boolean): LabelSet => ({
    multiple,
    labels: ['a', 'b', 'c'],
    lines: 12,
    counts: new Map([
      ['a', 2],
      ['b', 6],
      ['c', 4],
    ]),
  });

  it('are those of scikit-learn: lines / (classes * lines of the class)', () => {
    expect(classWeights(set(false), 'balanced')).toEqual([2, 12 / 18, 1]);
  });

  it('are lines without for each line with, where a text may have several', () => {
    expect(classWeights(set(true), 'balanced')).toEqual([5, 1, 2]);
  });

  it('are 1 for labels that are not named, and none where none are asked for', () => {
    expect(classWeights(set(false), { c: 3 })).toEqual([1, 1, 3]);
    expect(classWeights(set(false), null)).toBeNull();
  });
});

const runs = readdirSync(HEADS).flatMap(name => (['cpu', 'onnx'] as const).map(engine => ({ name, engine })));

describe.each(runs)('$name on $engine', { timeout: 120_000 }, ({ name, engine: engineName }) => {
  it('has the loss of PyTorch to 1e-5 and its gradients to 1e-4, packed or not', async () => {
    const { fixture, gradients, trained, engine, trainer, examples } = await openGolden(name, engineName);
    const { loss, weight, count } = await trainer.measureLoss(examples);
    expect(Math.abs(loss / weight - fixture.loss)).toBeLessThan(1e-5 * Math.max(1, fixture.loss));
    expect(count).toBe(examples.length * (fixture.problem === 'multiple' ? fixture.labels.length : 1));

    const layout = trained.state;
    const sums = new Float32Array(layout.size);
    let total = 0;
    for (const part of planBatch(examples.map(tokensOf), SHAPES, { hiddenSize: 32 })) {
      const program = await engine.compile(gradientProgram(trained, part.shape));
      const after = new Float32Array(layout.size);
      const out = await program.run(
        {
          ...trained.objective.pack(part, examples),
          ...viewsOf(await trainer.readParameters(), layout, PARAMETER),
          ...viewsOf(sums, layout, BEFORE),
        },
        viewsOf(after, layout, AFTER),
      );
      sums.set(after);
      total += (out.weight ?? out.count)![0]!;
      await program.close();
    }
    const found = viewsOf(
      sums.map(sum => sum / total),
      layout,
    );
    for (const [parameter, expected] of Object.entries(gradients)) {
      const actual = found[parameter]!;
      if (fixture.without_gradient.includes(parameter))
        expect(Math.max(...actual.map(Math.abs)), parameter).toBeLessThan(1e-6);
      else expect(relativeDifference(actual, expected), parameter).toBeLessThan(1e-4);
    }
    await trainer.close();
  });

  it('takes the same twenty steps as torch.optim.AdamW, to 1e-4', async () => {
    const { fixture, final, trainer, examples } = await openGolden(name, engineName);
    const { learning_rate, weight_decay, max_grad_norm, batch } = fixture.optimizer;
    for (const [index, expected] of fixture.steps.entries()) {
      const taken = Array.from({ length: batch }, (_, i) => examples[(index * batch + i) % examples.length]!);
      const plan = planBatch(taken.map(tokensOf), SHAPES, { hiddenSize: 32 });
      const result = await trainer.takeStep(plan, taken, {
        step: index + 1,
        learningRate: learning_rate,
        weightDecay: weight_decay,
        maxGradNorm: max_grad_norm,
        seed: 0,
      });
      const relative = (actual: number, wanted: number) => Math.abs(actual / wanted - 1);
      expect(relative(result.loss / result.weight, expected.loss), `loss ${index + 1}`).toBeLessThan(1e-4);
      expect(relative(result.gradientNorm, expected.gradient_norm), `norm ${index + 1}`).toBeLessThan(1e-4);
    }
    const views = viewsOf(await trainer.readParameters(), trainer.trained.state);
    for (const [parameter, expected] of Object.entries(final)) {
      if (fixture.without_gradient.includes(parameter)) continue;
      expect(relativeDifference(views[parameter]!, expected), parameter).toBeLessThan(1e-4);
    }
    await trainer.close();
  });
});
