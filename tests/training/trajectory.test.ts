// Twenty AdamW steps against PyTorch's: losses, gradient norms and the trained numbers at the end; on this machine's devices, too.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rowLengths } from '../../src/data/example-form.ts';
import { type EngineName, openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { planBatch } from '../../src/training/layout.ts';
import { viewsOf } from '../../src/training/state.ts';
import { withMemory } from '../engine/device.ts';
import { enginesUnderTest } from '../engine/engines.ts';
import { relativeDifference } from '../models/golden.ts';
import { golden, openGolden, ourName, readTrajectory, unpack } from './golden-run.ts';

interface Contender {
  readonly on: string;
  readonly engine: EngineName | Engine;
}

const SHAPES = [
  { rows: 2, length: 24 },
  { rows: 1, length: 32 },
];

const engines: EngineName[] = ['cpu', 'onnx', ...(tensorflowIsSetUp() ? ['tensorflow' as const] : [])];
const onnx = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
const devices = (await enginesUnderTest()).filter(({ device }) => device !== 'cpu');
const contenders: Contender[] = [
  ...engines.map(engine => ({ on: engine, engine })),
  { on: 'onnx with a memory of its own', engine: withMemory(onnx) },
  ...devices.map(engine => ({ on: `${engine.name} on ${engine.device}`, engine })),
];
const kinds = ['lora', 'full'] as const;
const ON_EVERY_ENGINE = ['llama3', 'gpt2', 't5-v1.1', 'marian'];
const ON_ONNX =
  'mistral qwen2 qwen3 gpt-neox falcon-7b falcon-40b mixtral gemma2 gemma3 phi3 cohere t5 bart'.split(' ');

const runs = [
  ...ON_EVERY_ENGINE.flatMap(model =>
    kinds.flatMap(kind => contenders.map(contender => ({ model, kind, ...contender }))),
  ),
  ...ON_ONNX.flatMap(model => kinds.map(kind => ({ model, kind, on: 'onnx', engine: 'onnx' as const }))),
];

/** TensorFlow's rounding is about five times coarser; at step 19, of the smallest gradient, that makes 1.5e-4 (7.8e-5 on onnx). */
const COARSER_NORM = 3e-4;
const normToleranceOf = (engine: EngineName | Engine) => (engine === 'tensorflow' ? COARSER_NORM : 1e-4);

describe.each(runs)('$kind training of $model by $on', { timeout: 120_000 }, ({ model, kind, engine }) => {
  it('takes the same twenty steps as torch.optim.AdamW, to 1e-4', async () => {
    const { optimizer, batches, steps, without_gradient: blind } = readTrajectory(model, kind);
    const trainer = await openGolden({ model, kind, engine, shapes: SHAPES });
    const costs = { hiddenSize: trainer.trained.model.shape.hiddenSize };
    for (const [index, expected] of steps.entries()) {
      const examples = unpack(batches[index % batches.length]!);
      const plan = planBatch(rowLengths(trainer.trained.objective.form, examples), SHAPES, costs);
      const result = await trainer.takeStep(plan, examples, {
        step: index + 1,
        learningRate: expected.learning_rate,
        weightDecay: optimizer.weight_decay,
        maxGradNorm: optimizer.max_grad_norm,
        seed: 0,
      });
      expect(Math.abs(result.loss / result.weight / expected.loss - 1), `loss ${index + 1}`).toBeLessThan(
        1e-4,
      );
      expect(
        Math.abs(result.gradientNorm / expected.gradient_norm - 1),
        `gradient norm ${index + 1}`,
      ).toBeLessThan(normToleranceOf(engine));
    }
    const { tensors } = await readHeader(join(golden(model), `trajectory-${kind}.safetensors`));
    const views = viewsOf(await trainer.readParameters(), trainer.trained.state);
    for (const [name, stored] of Object.entries(tensors)) {
      const expected = await readTensor(stored);
      const actual = views[ourName(name)]!;
      for (const { tensor, from, to } of blind)
        if (tensor === name) actual.set(expected.subarray(from, to), from);
      expect(relativeDifference(actual, expected), name).toBeLessThan(1e-4);
    }
    await trainer.close();
  });
});
