// The two programs of supervised training for one shape of micro-batch: loss with gradients added onto accumulators,
// and loss alone. They are pure; what they are fed with is in micro-batch.ts, when they run is in loop.ts.
import type { Tensor } from '@tensorflow/tfjs';
import { crossEntropySums } from '../engine/ops.ts';
import type { Program, TensorSpec, Tensors } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import type { LoraPair } from '../models/lora.ts';
import { type PackedAdapter, packedLayers } from '../models/packed.ts';
import { type Model, requireCausal } from '../models/registry.ts';
import type { StateLayout } from './state.ts';
import { type LoraTuning, loraNames, type Tuning } from './trainable.ts';

/** Rows of a micro-batch and tokens of a row, padding included. */
export interface MicroBatchShape {
  readonly rows: number;
  readonly length: number;
}

/** Prefixes of the programs' inputs and outputs that go by a parameter's or a layer's name. */
export const PARAMETER = 'parameter/';
/** Gradient sums so far, and with this micro-batch's. */
export const BEFORE = 'before/';
export const AFTER = 'after/';
/** Dropout: 1 where the adapter sees its layer's input. */
export const KEPT = 'kept/';

export interface TrainedModel {
  readonly model: Model;
  readonly tuning: Tuning;
  readonly state: StateLayout;
}

/** tokens, targets (-1: none), positions, segments: [rows, length] int32. */
function batchInputs({ rows, length }: MicroBatchShape): Record<string, TensorSpec> {
  const spec: TensorSpec = { shape: [rows, length], dtype: 'int32' };
  return { tokens: spec, targets: spec, positions: spec, segments: spec };
}

const parameterInputs = (state: StateLayout, prefix: string): Record<string, TensorSpec> =>
  Object.fromEntries(state.slots.map(({ name, shape }) => [prefix + name, { shape, dtype: 'float32' }]));

function keptInputs(tuning: Tuning, { rows, length }: MicroBatchShape): Record<string, TensorSpec> {
  if (tuning.kind === 'full' || tuning.dropout === 0) return {};
  return Object.fromEntries(
    tuning.layers.map(({ name, inFeatures }) => [
      KEPT + name,
      { shape: [rows, length, inFeatures], dtype: 'bool' },
    ]),
  );
}

function adapterOf(tuning: LoraTuning, parameters: Tensors, inputs: Tensors): PackedAdapter {
  const pair = (layer: LoraTuning['layers'][number]): LoraPair => {
    const names = loraNames(layer);
    return { a: parameters[names.a]!, b: parameters[names.b]! };
  };
  const grown = 1 / (1 - tuning.dropout);
  const dropped = Object.keys(inputs).some(name => name.startsWith(KEPT));
  return {
    scale: tuning.alpha / tuning.rank,
    pairs: Object.fromEntries(tuning.layers.map(layer => [layer.name, pair(layer)])),
    ...(dropped && {
      dropoutMask: layer => tf.mul(tf.cast(inputs[KEPT + layer.name]!, 'float32'), grown),
    }),
  };
}

/** Sums over the micro-batch: of losses, of right guesses, of trained tokens. */
function lossSums(trained: TrainedModel, parameters: Tensors, inputs: Tensors, frozen: Tensors) {
  const { tuning } = trained;
  const model = requireCausal(trained.model);
  const full = tuning.kind === 'full';
  const weights = full ? parameters : frozen;
  const layers = packedLayers({
    linearLayers: model.linearLayers,
    weights,
    segments: inputs.segments!,
    adapter: full ? null : adapterOf(tuning, parameters, inputs),
  });
  const hidden = model.hidden(inputs.tokens!, inputs.positions!, layers); // [rows, length, width]
  const flat = tf.reshape(hidden, [-1, model.shape.hiddenSize]);
  const targets = tf.reshape(inputs.targets!, [-1]);
  return crossEntropySums(flat, weights[model.outputWeight]!, targets, model.logitSoftcap);
}

const frozenWeights = ({ model, tuning }: TrainedModel) => (tuning.kind === 'full' ? {} : model.weights);

const take = (inputs: Tensors, prefix: string, names: readonly string[]): Tensors =>
  Object.fromEntries(names.map(name => [name, inputs[prefix + name]!]));

export function lossProgram(trained: TrainedModel, shape: MicroBatchShape): Program {
  const names = trained.state.slots.map(({ name }) => name);
  return {
    name: `loss-${shape.rows}x${shape.length}`,
    inputs: { ...batchInputs(shape), ...parameterInputs(trained.state, PARAMETER) },
    weights: frozenWeights(trained),
    run: (inputs, frozen) => ({ ...lossSums(trained, take(inputs, PARAMETER, names), inputs, frozen) }),
  };
}

export function gradientProgram(trained: TrainedModel, shape: MicroBatchShape): Program {
  const names = trained.state.slots.map(({ name }) => name);
  return {
    name: `gradient-${shape.rows}x${shape.length}`,
    inputs: {
      ...batchInputs(shape),
      ...keptInputs(trained.tuning, shape),
      ...parameterInputs(trained.state, PARAMETER),
      ...parameterInputs(trained.state, BEFORE),
    },
    weights: frozenWeights(trained),
    run(inputs, frozen) {
      const counts: Tensor[] = [];
      const loss = (...values: Tensor[]) => {
        const parameters = Object.fromEntries(names.map((name, i) => [name, values[i]!]));
        const { lossSum, correct, count } = lossSums(trained, parameters, inputs, frozen);
        // Kept out of the scope that the gradient function closes.
        counts.push(tf.keep(correct), tf.keep(count));
        return lossSum;
      };
      const { value, grads } = tf.valueAndGrads(loss as never)(names.map(name => inputs[PARAMETER + name]!));
      const [correct, count] = counts.map(kept => tf.clone(kept)) as [Tensor, Tensor];
      for (const kept of counts) kept.dispose();
      const sums = names.map((name, i) => [AFTER + name, tf.add(inputs[BEFORE + name]!, grads[i]!)]);
      return { lossSum: value, correct, count, ...Object.fromEntries(sums) };
    },
  };
}
