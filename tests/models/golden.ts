// Reads tests/golden, runs its micro-batches through our forward and backward passes, and compares.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import { expect } from 'vitest';
import { crossEntropySums } from '../../src/engine/ops.ts';
import type { Engine, HostArrays, Program, TensorSpec, Tensors } from '../../src/engine/program.ts';
import { softcap } from '../../src/engine/softcap.ts';
import { tf } from '../../src/engine/tf.ts';
import { type Adapter, readAdapter } from '../../src/formats/peft.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { loraShapes } from '../../src/models/lora.ts';
import { type PackedAdapter, packedLayers } from '../../src/models/packed.ts';
import { type Model, openModel, requireGenerative } from '../../src/models/registry.ts';

export const goldenDirectory = (name: string): string => join(import.meta.dirname, '../golden', name);

/** Rows of one micro-batch: [rows][length]. */
export interface Batch {
  readonly tokens: number[][];
  readonly positions: number[][];
  readonly segments: number[][];
  /** Of models that predict tokens. */
  readonly targets?: number[][];
  /** Of encoder-decoders: rows of sources, whose segments are numbered as the answers' are. */
  readonly sourceTokens?: number[][];
  readonly sourcePositions?: number[][];
  readonly sourceSegments?: number[][];
}

export interface Golden {
  readonly batch: Batch;
  readonly loss: number;
  readonly loraLoss: number;
  readonly tensors: Record<string, Float32Array>;
}

export async function readGolden(name: string): Promise<Golden> {
  const directory = goldenDirectory(name);
  const json = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8'));
  const tensors = await readTensors(join(directory, 'golden.safetensors'));
  return { batch: json.batch, loss: json.loss, loraLoss: json.lora_loss, tensors };
}

/** A golden folder's model, the adapter that PEFT wrote for it, and what both compute. */
export async function loadGolden(name: string) {
  const directory = goldenDirectory(name);
  const model = await openModel(directory);
  const adapter = await readAdapter(join(directory, 'adapter'), model.linearLayers);
  return { model, adapter, golden: await readGolden(name) };
}

export async function readTensors(file: string): Promise<Record<string, Float32Array>> {
  const stored = Object.entries((await readHeader(file)).tensors);
  const read = stored.map(async ([name, tensor]) => [name, await readTensor(tensor)] as const);
  return Object.fromEntries(await Promise.all(read));
}

const batchArrays = (batch: Batch): HostArrays =>
  Object.fromEntries(Object.entries(batch).map(([name, rows]) => [name, Int32Array.from(rows.flat())]));

function batchSpecs(batch: Batch): Record<string, TensorSpec> {
  const spec = (rows: number[][]): TensorSpec => ({ shape: [rows.length, rows[0]!.length], dtype: 'int32' });
  return Object.fromEntries(Object.entries(batch).map(([name, rows]) => [name, spec(rows)]));
}

/** Every A and B by PEFT's name, as inputs of a program. */
function adapterInputs(model: Model, adapter: Adapter) {
  const specs: Record<string, TensorSpec> = {};
  const arrays: HostArrays = {};
  for (const layer of model.linearLayers.filter(({ name }) => adapter.layers[name])) {
    const shapes = loraShapes(layer, adapter.rank);
    for (const half of ['a', 'b'] as const) {
      const name = `base_model.model.${layer.name}.lora_${half.toUpperCase()}.weight`;
      specs[name] = { shape: shapes[half], dtype: 'float32' };
      arrays[name] = adapter.layers[layer.name]![half];
    }
  }
  return { specs, arrays };
}

function packedAdapter(model: Model, scale: number, tensors: Tensors): PackedAdapter {
  const pair = (name: string) => ({
    a: tensors[`base_model.model.${name}.lora_A.weight`]!,
    b: tensors[`base_model.model.${name}.lora_B.weight`]!,
  });
  const adapted = model.linearLayers.filter(({ name }) => pair(name).a);
  return { scale, pairs: Object.fromEntries(adapted.map(({ name }) => [name, pair(name)])) };
}

const hiddenStates = (
  model: Model,
  inputs: Tensors,
  weights: Tensors,
  adapter: PackedAdapter | null,
): Tensor => {
  const given = { linearLayers: model.linearLayers, weights, adapter };
  const { sourceTokens, sourcePositions, sourceSegments: read } = inputs;
  const source = read && {
    states: model.encode(sourceTokens!, sourcePositions!, packedLayers({ ...given, segments: read })),
    segments: read,
  };
  const layers = packedLayers({ ...given, segments: inputs.segments!, source });
  const hidden = model.hidden(inputs.tokens!, inputs.positions!, layers);
  return tf.reshape(hidden, [-1, model.shape.hiddenSize]);
};

async function runOnce(engine: Engine, program: Program, arrays: HostArrays): Promise<HostArrays> {
  const executable = await engine.compile(program);
  const outputs = await executable.run(arrays);
  await executable.close();
  return outputs;
}

/** What is made of the last hidden states [rows * length, hiddenSize]. */
type Output = (model: Model, hidden: Tensor, weights: Tensors, inputs: Tensors) => Tensor;

const logits: Output = (model, hidden, weights) => {
  const { outputWeight, logitSoftcap, logitBias } = requireGenerative(model);
  const products: Tensor = tf.matMul(hidden as never, weights[outputWeight] as never, false, true);
  return softcap(logitBias ? tf.add(products, weights[logitBias]!) : products, logitSoftcap);
};

const crossEntropy: Output = (model, hidden, weights, inputs) => {
  const { outputWeight, logitSoftcap, logitBias } = requireGenerative(model);
  const targets = tf.reshape(inputs.targets!, [-1]);
  const bias = logitBias ? tf.reshape(weights[logitBias]!, [-1]) : null;
  return crossEntropySums(hidden, weights[outputWeight]!, targets, logitSoftcap, bias).lossSum;
};

async function runForward(
  engine: Engine,
  model: Model,
  batch: Batch,
  adapter: Adapter | null,
  output: Output,
): Promise<Float32Array> {
  const given = adapter ? adapterInputs(model, adapter) : { specs: {}, arrays: {} };
  const program: Program = {
    name: 'forward',
    inputs: { ...batchSpecs(batch), ...given.specs },
    weights: model.weights,
    run(inputs, weights) {
      const packed = adapter ? packedAdapter(model, adapter.scale, inputs) : null;
      const hidden = hiddenStates(model, inputs, weights, packed);
      return { output: output(model, hidden, weights, inputs) };
    },
  };
  const outputs = await runOnce(engine, program, { ...batchArrays(batch), ...given.arrays });
  return outputs.output as Float32Array;
}

/** -> [rows * length * vocab] */
export const runLogits = (engine: Engine, model: Model, batch: Batch, adapter: Adapter | null = null) =>
  runForward(engine, model, batch, adapter, logits);

/** -> [rows * length * hiddenSize] */
export const runHidden = (engine: Engine, model: Model, batch: Batch, adapter: Adapter | null = null) =>
  runForward(engine, model, batch, adapter, (_, hidden) => tf.clone(hidden));

export interface LossAndGradients {
  readonly loss: number;
  readonly gradients: Record<string, Float32Array>;
}

/** With an adapter: gradients of its tensors, by PEFT's names. Without: of every tensor of the model that is ever trained. */
async function runBackward(
  engine: Engine,
  model: Model,
  batch: Batch,
  adapter: Adapter | null,
  loss: Output,
): Promise<LossAndGradients> {
  const trained = adapter ? adapterInputs(model, adapter) : await weightInputs(model);
  const names = Object.keys(trained.specs);
  const program: Program = {
    name: 'gradients',
    inputs: { ...batchSpecs(batch), ...trained.specs },
    weights: adapter ? model.weights : fixedWeights(model),
    run(inputs, frozen) {
      const lossOf = (...values: Tensor[]): Tensor => {
        const given = Object.fromEntries(names.map((name, i) => [name, values[i]!]));
        const weights = adapter ? frozen : { ...frozen, ...given };
        const packed = adapter ? packedAdapter(model, adapter.scale, given) : null;
        return loss(model, hiddenStates(model, inputs, weights, packed), weights, inputs);
      };
      const { value, grads } = tf.valueAndGrads(lossOf as never)(names.map(name => inputs[name]!));
      return { value, ...Object.fromEntries(names.map((name, i) => [name, grads[i]!])) };
    },
  };
  const { value, ...gradients } = await runOnce(engine, program, {
    ...batchArrays(batch),
    ...trained.arrays,
  });
  return { loss: value![0]!, gradients: gradients as Record<string, Float32Array> };
}

/** Cross-entropy: mean over the tokens that have a target; the gradients are of the mean too. */
export async function runGradients(
  engine: Engine,
  model: Model,
  batch: Batch,
  adapter: Adapter | null = null,
): Promise<LossAndGradients> {
  const sums = await runBackward(engine, model, batch, adapter, crossEntropy);
  const count = batch.targets!.flat().filter(target => target >= 0).length;
  const gradients = Object.fromEntries(
    Object.entries(sums.gradients).map(([name, sum]) => [name, sum.map(value => value / count)]),
  );
  return { loss: sums.loss / count, gradients };
}

/** Of the mean of the hidden states times `probe`, element by element. */
export const runProbe = (
  engine: Engine,
  model: Model,
  batch: Batch,
  probe: Float32Array,
  adapter: Adapter | null = null,
) =>
  runBackward(engine, model, batch, adapter, (_, hidden) =>
    tf.mean(tf.mul(hidden, tf.tensor(probe, hidden.shape))),
  );

const fixedWeights = ({ weights, logitBias }: Model) =>
  logitBias ? { [logitBias]: weights[logitBias]! } : {};

async function weightInputs(model: Model) {
  const specs: Record<string, TensorSpec> = {};
  const arrays: HostArrays = {};
  const fixed = fixedWeights(model);
  for (const [name, stored] of Object.entries(model.weights)) {
    if (fixed[name]) continue;
    specs[name] = { shape: stored.shape, dtype: 'float32' };
    arrays[name] = await readTensor(stored);
  }
  return { specs, arrays };
}

/** The largest difference at places where the row is not padding. */
export function largestDifference(batch: Batch, ours: Float32Array, theirs: Float32Array): number {
  const segments = batch.segments.flat();
  const width = ours.length / segments.length;
  return ours.reduce((largest, value, i) => {
    const padded = segments[Math.floor(i / width)]! < 0;
    return padded ? largest : Math.max(largest, Math.abs(value - theirs[i]!));
  }, 0);
}

const norm = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

/** |ours - theirs| / |theirs|, as vectors. */
export const relativeDifference = (ours: Float32Array, theirs: Float32Array): number =>
  norm(ours.map((value, i) => value - theirs[i]!)) / norm(theirs);

/** A bias of all keys changes no attention: its gradient is zero but for rounding, in float64 and in float32. */
const isZero = (theirs: Float32Array): boolean => norm(theirs) < 1e-15;

/** Each tensor within 1e-4 of its own norm, and no tensor missing on either side. */
export function expectGradients(
  ours: Record<string, Float32Array>,
  tensors: Record<string, Float32Array>,
  prefix: string,
): void {
  const theirs = Object.entries(tensors).filter(([name]) => name.startsWith(prefix));
  expect(Object.keys(ours).sort()).toEqual(theirs.map(([name]) => name.slice(prefix.length)).sort());
  const differences = theirs.map(([name, gradient]) => {
    const own = ours[name.slice(prefix.length)]!;
    return [name, isZero(gradient) ? 1e3 * norm(own) : relativeDifference(own, gradient)];
  });
  expect(differences.filter(([, difference]) => (difference as number) > 1e-4)).toEqual([]);
}
