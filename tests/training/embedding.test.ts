// Contrastive training against PyTorch, PEFT and sentence-transformers: losses, gradients, and eight AdamW steps, however a batch is cut.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Example, tokensOf } from '../../src/data/example-form.ts';
import { pairForm } from '../../src/data/pairs.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { planBatch } from '../../src/training/layout.ts';
import { embedding, openEmbedding } from '../../src/training/objectives/embedding.ts';
import type { MicroBatchShape } from '../../src/training/programs.ts';
import { viewsOf } from '../../src/training/state.ts';
import { firstValues, stateLayoutOf, type Tuning } from '../../src/training/trainable.ts';
import { openTrainer } from '../../src/training/trainer.ts';
import { relativeDifference } from '../models/golden.ts';
import { golden } from './golden-run.ts';

type Kind = 'lora' | 'full';

interface Golden {
  lines: Record<string, string>[];
  examples: Record<string, number[]>[];
  temperature: number;
  rank: number;
  alpha: number;
  loss: number;
  accuracy: number;
  without_gradient: string[];
  optimizer: { learning_rate: number; weight_decay: number; max_grad_norm: number; batch: number };
  steps: { loss: number; gradient_norm: number }[];
}

/** Of one text at a time nearly, of a few, of all at once. */
const LAYOUTS: Record<string, MicroBatchShape[]> = {
  'a row each': [{ rows: 1, length: 64 }],
  'two rows': [{ rows: 2, length: 80 }],
  'one micro-batch': [{ rows: 4, length: 128 }],
};

async function openGolden(kind: Kind, engineName: 'cpu' | 'onnx', shapes: MicroBatchShape[], dropout = 0) {
  const fixture: Golden = JSON.parse(readFileSync(join(golden('contrastive'), `${kind}.json`), 'utf8'));
  const { tensors } = await readHeader(join(golden('contrastive'), `${kind}.safetensors`));
  const read = Object.entries(tensors).map(async ([key, stored]) => [key, await readTensor(stored)] as const);
  const entries = await Promise.all(read);
  const under = (prefix: string) =>
    Object.fromEntries(
      entries
        .filter(([key]) => key.startsWith(`${prefix}.`))
        .map(([key, values]) => [key.slice(prefix.length + 1), values]),
    );
  const model = await openModel(golden('bert-tiny'));
  const objective = embedding(model, 'mean', fixture.temperature);
  const { rank, alpha } = fixture;
  const tuning: Tuning =
    kind === 'full' ? { kind } : { kind, layers: model.linearLayers, rank, alpha, dropout };
  const layout = stateLayoutOf(model, tuning, objective);
  const parameters = await firstValues({ model, tuning, objective, adapter: null, seed: 0 }, layout);
  for (const [name, values] of Object.entries(under('start'))) viewsOf(parameters, layout)[name]!.set(values);
  const trainer = await openTrainer({
    engine: await openEngine({ engine: engineName, device: 'cpu', threads: 1 }),
    trained: { model, tuning, objective, state: layout },
    state: { parameters, m: new Float32Array(layout.size), v: new Float32Array(layout.size) },
    costs: { hiddenSize: model.shape.hiddenSize },
    shapes: () => shapes,
    between: async () => {},
  });
  const tokenizer = await loadTokenizer(golden('bert-tiny'));
  const examples = fixture.lines.flatMap(line => pairForm.examples(line, tokenizer));
  const planOf = (taken: readonly Example[]) => planBatch(taken.map(tokensOf), shapes, { hiddenSize: 32 });
  return { fixture, gradients: under('gradient'), final: under('final'), layout, trainer, examples, planOf };
}

const cases = (['lora', 'full'] as const).flatMap(kind => [
  ...Object.keys(LAYOUTS).map(cut => ({ kind, engine: 'onnx' as const, cut })),
  { kind, engine: 'cpu' as const, cut: 'two rows' },
]);

describe.each(cases)('$kind on $engine, $cut', { timeout: 120_000 }, ({ kind, engine, cut }) => {
  test('the loss, and the gradients of the whole batch, are those of PyTorch', async () => {
    const run = await openGolden(kind, engine, LAYOUTS[cut]!);
    const { fixture, trainer, examples, layout } = run;
    const { loss, weight, score, count } = await trainer.measureLoss(examples);
    expect(Math.abs(loss / weight - fixture.loss)).toBeLessThan(2e-5);
    expect(score / count).toBeCloseTo(fixture.accuracy, 6);
    const options = { step: 1, learningRate: 0, weightDecay: 0, maxGradNorm: 1e9, seed: 0 };
    const taken = await trainer.takeStep(run.planOf(examples), examples, options);
    expect(Math.abs(taken.loss / taken.weight - fixture.loss)).toBeLessThan(2e-5);
    // After one step Adam's first moment is a tenth of the gradient.
    const found = viewsOf((await trainer.readState()).m, layout);
    for (const [name, expected] of Object.entries(run.gradients)) {
      const actual = found[name]!.map(value => value * 10);
      if (fixture.without_gradient.includes(name))
        expect(Math.max(...actual.map(Math.abs)), name).toBeLessThan(1e-5);
      else expect(relativeDifference(actual, expected), name).toBeLessThan(1e-4);
    }
    await trainer.close();
  });

  test('eight steps of AdamW end where those of PyTorch do', async () => {
    const { fixture, trainer, examples, planOf, final, layout } = await openGolden(
      kind,
      engine,
      LAYOUTS[cut]!,
    );
    const { learning_rate, weight_decay, max_grad_norm, batch } = fixture.optimizer;
    for (const [index, expected] of fixture.steps.entries()) {
      const taken = Array.from({ length: batch }, (_, i) => examples[(index * batch + i) % examples.length]!);
      const result = await trainer.takeStep(planOf(taken), taken, {
        step: index + 1,
        learningRate: learning_rate,
        weightDecay: weight_decay,
        maxGradNorm: max_grad_norm,
        seed: 0,
      });
      expect(Math.abs(result.loss / result.weight / expected.loss - 1), `loss ${index + 1}`).toBeLessThan(
        1e-4,
      );
      expect(Math.abs(result.gradientNorm / expected.gradient_norm - 1)).toBeLessThan(1e-4);
    }
    const found = viewsOf(await trainer.readParameters(), layout);
    for (const [name, expected] of Object.entries(final))
      if (!fixture.without_gradient.includes(name))
        expect(relativeDifference(found[name]!, expected), name).toBeLessThan(1e-4);
    await trainer.close();
  });
});

test('the texts of a line become the tokens of transformers, a missing negative none', async () => {
  const { fixture, examples, trainer } = await openGolden('lora', 'cpu', LAYOUTS['two rows']!);
  const tokens = examples.map(({ sequences }) => sequences.map(sequence => [...sequence.tokens]));
  expect(tokens).toEqual(
    fixture.examples.map(({ anchor, positive, negative }) => [anchor, positive, negative ?? []]),
  );
  await trainer.close();
});

test('with dropout, vectors and their gradients see the same masks', async () => {
  const cut = await openGolden('lora', 'onnx', LAYOUTS['a row each']!, 0.3);
  const options = { step: 1, learningRate: 0, weightDecay: 0, maxGradNorm: 1e9, seed: 7 };
  const step = () => cut.trainer.takeStep(cut.planOf(cut.examples), cut.examples, options);
  const [first, again] = [await step(), await step()];
  expect(again.loss).toBe(first.loss);
  const plain = await cut.trainer.measureLoss(cut.examples);
  expect(Math.abs(plain.loss - first.loss)).toBeGreaterThan(1e-3);
  await cut.trainer.close();
});

test('a full training that would leave the output projection behind is refused', async () => {
  const open = (name: string) =>
    openModel(golden(name)).then(model =>
      openEmbedding({
        model,
        method: { type: 'embedding' },
        hyperparameters: { adapter: 'full' },
        tokenizer: null as never,
        adapter: null,
        adapterDirectory: null,
        trainingFile: '',
      }),
    );
  await expect(open('llama2')).rejects.toThrow(
    "adapter 'full' is not supported for embeddings of this llama model",
  );
  await expect(open('llama3')).resolves.toMatchObject({ measure: 'accuracy' });
  await expect(open('t5')).rejects.toThrow('makes no embeddings');
});
