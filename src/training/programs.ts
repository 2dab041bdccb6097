// The training programs of one micro-batch shape: loss with gradients added to accumulators, loss alone, and what
// objectives need besides. They are pure; the objective defines the loss and the inputs.
import type { Tensor } from '@tensorflow/tfjs';
import type { Program, TensorSpec, Tensors } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import type { LinearLayer } from '../models/architecture.ts';
import type { LoraPair } from '../models/lora.ts';
import { type PackedAdapter, packedLayers } from '../models/packed.ts';
import type { Model } from '../models/registry.ts';
import type { Forward, LossTensors, Objective } from './objectives/objective.ts';
import type { StateLayout } from './state.ts';
import { fixedWeights, type LoraTuning, loraNames, type Tuning } from './trainable.ts';

/** Rows of a micro-batch and tokens per row, padding included. */
export interface MicroBatchShape {
  readonly rows: number;
  readonly length: number;
}

/** Prefixes of inputs and outputs that are named after a parameter or a layer. */
export const PARAMETER = 'parameter/';
/** Gradient sums before and after this micro-batch. */
export const BEFORE = 'before/';
export const AFTER = 'after/';
/** Dropout masks: 1 where the input is kept. */
export const KEPT = 'kept/';
/** For contrastive objectives: d loss / d vector. */
export const SLOPES = 'slopes';

export interface TrainedModel {
  readonly model: Model;
  readonly tuning: Tuning;
  readonly state: StateLayout;
  readonly objective: Objective;
  /** Recompute activations in the backward pass instead of keeping them; default: false. */
  readonly gradientCheckpointing?: boolean;
}

const parameterInputs = (state: StateLayout, prefix: string): Record<string, TensorSpec> =>
  Object.fromEntries(state.slots.map(({ name, shape }) => [prefix + name, { shape, dtype: 'float32' }]));

/** The shape of a layer's input [rows, length, in]. */
export const readShape = (
  { readLength }: Pick<Objective, 'readLength'>,
  shape: MicroBatchShape,
  layer: LinearLayer,
): [number, number, number] => [shape.rows, readLength?.(shape, layer) ?? shape.length, layer.inFeatures];

function keptInputs({ tuning, objective }: TrainedModel, shape: MicroBatchShape): Record<string, TensorSpec> {
  if (tuning.kind === 'full' || tuning.dropout === 0) return {};
  return Object.fromEntries(
    tuning.layers.map(layer => [
      KEPT + layer.name,
      { shape: readShape(objective, shape, layer), dtype: 'bool' },
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

function forwardOf(
  { model, tuning }: TrainedModel,
  parameters: Tensors,
  inputs: Tensors,
  frozen: Tensors,
): Forward {
  const weights = { ...frozen, ...parameters };
  const { linearLayers } = model;
  const adapter = tuning.kind === 'full' ? null : adapterOf(tuning, parameters, inputs);
  return {
    model,
    weight: name => weights[name]!,
    layers: (segments, source) => packedLayers({ linearLayers, weights, segments, adapter, source }),
  };
}

const lossOf = (trained: TrainedModel, parameters: Tensors, inputs: Tensors, frozen: Tensors): LossTensors =>
  trained.objective.loss(forwardOf(trained, parameters, inputs, frozen), inputs);

const frozenWeights = ({ model, tuning }: TrainedModel) =>
  tuning.kind === 'full' ? fixedWeights(model) : model.weights;

const take = (inputs: Tensors, prefix: string, names: readonly string[]): Tensors =>
  Object.fromEntries(names.map(name => [name, inputs[prefix + name]!]));

export function lossProgram(trained: TrainedModel, shape: MicroBatchShape): Program {
  const names = trained.state.slots.map(({ name }) => name);
  return {
    name: `loss-${shape.rows}x${shape.length}`,
    inputs: { ...trained.objective.inputs(shape), ...parameterInputs(trained.state, PARAMETER) },
    weights: frozenWeights(trained),
    run: (inputs, frozen) => ({ ...lossOf(trained, take(inputs, PARAMETER, names), inputs, frozen) }),
  };
}

/** Computes the objective's reference values: [rows, length]. */
export function referenceProgram(trained: TrainedModel, shape: MicroBatchShape): Program {
  const { inputs, weights } = lossProgram(trained, shape);
  const names = trained.state.slots.map(({ name }) => name);
  return {
    name: `reference-${shape.rows}x${shape.length}`,
    inputs,
    weights,
    run(inputs, frozen) {
      const forward = forwardOf(trained, take(inputs, PARAMETER, names), inputs, frozen);
      return { reference: trained.objective.reference!(forward, inputs) };
    },
  };
}

/** Computes the vectors of a contrastive objective: [texts, hiddenSize]; `training`: with dropout. */
export function vectorsProgram(trained: TrainedModel, shape: MicroBatchShape, training: boolean): Program {
  const { inputs, weights } = lossProgram(trained, shape);
  const names = trained.state.slots.map(({ name }) => name);
  return {
    name: `vectors-${shape.rows}x${shape.length}`,
    inputs: { ...inputs, ...(training && keptInputs(trained, shape)) },
    weights,
    run(inputs, frozen) {
      const forward = forwardOf(trained, take(inputs, PARAMETER, names), inputs, frozen);
      return { vectors: trained.objective.batch!.vectorsOf(forward, inputs) };
    },
  };
}

export function gradientProgram(trained: TrainedModel, shape: MicroBatchShape): Program {
  const names = trained.state.slots.map(({ name }) => name);
  return {
    name: `gradient-${shape.rows}x${shape.length}`,
    inputs: {
      ...trained.objective.inputs(shape),
      ...keptInputs(trained, shape),
      ...parameterInputs(trained.state, PARAMETER),
      ...parameterInputs(trained.state, BEFORE),
    },
    weights: frozenWeights(trained),
    gradients: {
      outputs: names.map(name => AFTER + name),
      recompute: trained.gradientCheckpointing ?? false,
    },
    run(inputs, frozen) {
      let kept: Tensors = {};
      const loss = (...values: Tensor[]) => {
        const parameters = Object.fromEntries(names.map((name, i) => [name, values[i]!]));
        const { lossSum, ...others } = lossOf(trained, parameters, inputs, frozen);
        // Must survive the scope that valueAndGrads closes.
        kept = Object.fromEntries(Object.entries(others).map(([name, sum]) => [name, tf.keep(sum)]));
        return lossSum;
      };
      const { value, grads } = tf.valueAndGrads(loss as never)(names.map(name => inputs[PARAMETER + name]!));
      const others = Object.fromEntries(Object.entries(kept).map(([name, sum]) => [name, tf.clone(sum)]));
      for (const sum of Object.values(kept)) sum.dispose();
      const sums = names.map((name, i) => [AFTER + name, tf.add(inputs[BEFORE + name]!, grads[i]!)]);
      return { lossSum: value, ...others, ...Object.fromEntries(sums) };
    },
  };
}
