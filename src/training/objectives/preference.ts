// Direct preference optimization (https://arxiv.org/abs/2305.18290): raises the log-probability ratio of the preferred
// to the other answer, relative to the model at the start.

import type { Tensor } from '@tensorflow/tfjs';
import { type Example, tokensOf } from '../../data/example-form.ts';
import { type PreferenceLine, preferenceForm, preferredLine } from '../../data/preferences.ts';
import { tokenLosses } from '../../engine/ops.ts';
import type { HostArrays, TensorSpec, Tensors } from '../../engine/program.ts';
import { tf } from '../../engine/tf.ts';
import { byGeneration } from '../../evaluation/generate.ts';
import { type CausalModel, type Model, requireCausal } from '../../models/registry.ts';
import { resolveBeta } from '../hyperparameters.ts';
import type { MicroBatchPlan } from '../layout.ts';
import { MEASURES } from '../measures.ts';
import { packTokens, startsIn, tokenInputs } from '../micro-batch.ts';
import type { MicroBatchShape } from '../programs.ts';
import type { Forward, Objective, OpenObjective } from './objective.ts';

/** `trl`'s, and the paper's for most of its tasks. */
const BETA = 0.1;
/**
 * Fraction of the supervised learning rate: both answers are likely already, and larger rates move too far from the
 * start.
 */
const RATE = 0.1;

/**
 * Inputs besides tokens, all [rows, length] float32: `sides` 1 on the preferred answer's sequence, -1 on the other's;
 * `pairs` 1..n, a number per pair, 0 in the padding; `begins` 1 where a pair begins; `reference` there the margin at
 * the start.
 */
function pairInputs(shape: MicroBatchShape): Record<string, TensorSpec> {
  const spec: TensorSpec = { shape: [shape.rows, shape.length], dtype: 'float32' };
  return { ...tokenInputs(shape), sides: spec, pairs: spec, begins: spec, reference: spec };
}

function packPairs(plan: MicroBatchPlan, examples: readonly Example[]): HostArrays {
  const { rows, length } = plan.shape;
  const empty = () => new Float32Array(rows * length);
  const [sides, pairs, begins, reference] = [empty(), empty(), empty(), empty()];
  for (const [index, { place, start }] of startsIn(plan, examples).entries()) {
    const example = examples[place]!;
    const other = start + example.sequences[0]!.tokens.length;
    const end = start + tokensOf(example);
    sides.fill(1, start, other).fill(-1, other, end);
    pairs.fill(index + 1, start, end);
    begins[start] = 1;
    reference[start] = example.values[0] ?? 0;
  }
  return { ...packTokens(plan, examples), sides, pairs, begins, reference };
}

/** log p(preferred) - log p(other) under the model, at every token of a pair [rows, length]. */
function margins(model: CausalModel, { weight, layers }: Forward, inputs: Tensors): Tensor {
  const { tokens, targets, positions, segments, sides, pairs } = inputs;
  const [rows, length] = tokens!.shape as [number, number];
  const states = tf.reshape(model.hidden(tokens!, positions!, layers(segments!)), [
    -1,
    model.shape.hiddenSize,
  ]);
  const layer = { weight: weight(model.outputWeight), softcap: model.logitSoftcap };
  const losses = tf.reshape(tokenLosses(states, layer, tf.reshape(targets!, [-1])), [rows, length, 1]);
  const signed = tf.neg(tf.mul(losses, tf.expandDims(sides!, 2)));
  const same = tf.cast(tf.equal(tf.expandDims(pairs!, 2), tf.expandDims(pairs!, 1)), 'float32');
  return tf.reshape(tf.matMul(same as never, signed as never), [rows, length]);
}

/** Score: pairs whose margin has grown since the start. */
export function preference(given: Model, beta: number): Objective {
  const model = requireCausal(given);
  return {
    form: preferenceForm,
    measure: MEASURES.dpo,
    hyperparameters: { beta },
    rate: RATE,
    head: null,
    unused: [],
    inputs: pairInputs,
    pack: packPairs,
    reference: (forward, inputs) => margins(model, forward, inputs),
    loss(forward, inputs) {
      const { begins, reference } = inputs;
      const gained = tf.sub(margins(model, forward, inputs), reference!);
      const losses = tf.softplus(tf.mul(gained, -beta)); // -log sigmoid(beta * gained)
      const better = tf.logicalAnd(tf.greater(gained, 0), tf.greater(begins!, 0));
      return {
        lossSum: tf.sum(tf.mul(losses, begins!)),
        score: tf.sum(tf.cast(better, 'int32')),
        count: tf.sum(tf.cast(begins!, 'int32')),
      };
    },
    ...byGeneration({ readLine: line => preferredLine(line as PreferenceLine) }),
  };
}

export const openPreference: OpenObjective = async ({ hyperparameters, model }) =>
  preference(model, resolveBeta(hyperparameters) ?? BETA);
