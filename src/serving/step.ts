// The program that reads tokens against a key-value cache: prefill, decoding and scoring are this, with other lengths.
// It samples nothing and holds nothing; the caches are inputs and what is to be added to them comes out.
import type { Tensor } from '@tensorflow/tfjs';
import { softmaxAttention } from '../engine/ops.ts';
import type { Program, TensorSpec, Tensors } from '../engine/program.ts';
import { softcap } from '../engine/softcap.ts';
import { tf } from '../engine/tf.ts';
import type { Attention, Layers, LinearLayer } from '../models/architecture.ts';
import { loraDelta, project } from '../models/lora.ts';
import type { CausalModel, Model } from '../models/registry.ts';

/** Adapters side by side: every row of a batch names its slot. Narrower ranks are padded with zeros. */
export interface StackShape {
  readonly slots: number;
  readonly rank: number;
  /** Names of the linear layers that at least one of them adapts, in the model's order. */
  readonly layers: readonly string[];
}

export interface StepShape {
  readonly rows: number;
  /** New tokens of a row; 1 when decoding. */
  readonly length: number;
  /** Cached tokens of a row; 0 for the first piece of a prompt. */
  readonly cache: number;
  readonly stack: StackShape | null;
  /** `last`: logits [rows, vocab] at `last`; `all`: [rows, length, vocab]. */
  readonly logits: 'last' | 'all';
}

/** A score that softmax turns into exactly 0 beside any other. */
export const HIDDEN = -1e9;

const float32 = (...shape: number[]): TensorSpec => ({ shape, dtype: 'float32' });
const int32 = (...shape: number[]): TensorSpec => ({ shape, dtype: 'int32' });

/** Whatever the model's forward pass asks of its surroundings in a step. */
interface Step {
  readonly shape: StepShape;
  readonly linearLayers: ReadonlyMap<string, LinearLayer>;
  readonly inputs: Tensors;
  readonly weights: Tensors;
  /** Keys and values of the new tokens, by output name. */
  readonly produced: Tensors;
}

/**
 * Inputs: `tokens`, `positions` [rows, length]; `mask` [rows, length, cache + length], 0 or HIDDEN; `last` [rows], indices into
 * the flat [rows * length]; `key.i`, `value.i` [rows, kvHeads, cache, headDim]; with adapters `slot` [rows] (where there is more than one), `on` [rows, 1, 1] (0 for
 * rows without), `a.layer` [slots, rank, in], `b.layer` [slots, out, rank] (alpha / rank included).
 * Outputs: `logits`, and `key.i`, `value.i` [rows, kvHeads, length, headDim] of the new tokens.
 */
export function stepProgram(model: CausalModel, shape: StepShape): Program {
  const linearLayers = new Map(model.linearLayers.map(layer => [layer.name, layer]));
  return {
    name: `${model.architecture} step ${shape.rows}x${shape.length}+${shape.cache} ${shape.logits}`,
    inputs: { ...tokenSpecs(shape), ...cacheSpecs(model, shape), ...stackSpecs(linearLayers, shape) },
    weights: model.weights,
    sharesWeights: true,
    run(inputs, weights) {
      const step: Step = { shape, linearLayers, inputs, weights, produced: {} };
      const hidden = model.hidden(inputs.tokens!, inputs.positions!, stepLayers(step));
      return { logits: logitsOf(model, step, hidden), ...step.produced };
    },
  };
}

const tokenSpecs = ({ rows, length, cache, logits }: StepShape): Record<string, TensorSpec> => ({
  tokens: int32(rows, length),
  positions: int32(rows, length),
  mask: float32(rows, length, cache + length),
  ...(logits === 'last' ? { last: int32(rows) } : {}),
});

function cacheSpecs({ shape: model }: Model, { rows, cache }: StepShape): Record<string, TensorSpec> {
  if (cache === 0) return {};
  const spec = float32(rows, model.kvHeads, cache, model.headDim);
  return Object.fromEntries(
    Array.from({ length: model.layers }, (_, i) => [
      [`key.${i}`, spec],
      [`value.${i}`, spec],
    ]).flat(),
  );
}

function stackSpecs(
  linearLayers: ReadonlyMap<string, LinearLayer>,
  { rows, stack }: StepShape,
): Record<string, TensorSpec> {
  if (!stack) return {};
  const { slots, rank } = stack;
  const pairs = stack.layers.flatMap(name => {
    const { inFeatures, outFeatures } = linearLayers.get(name)!;
    return [
      [`a.${name}`, float32(slots, rank, inFeatures)],
      [`b.${name}`, float32(slots, outFeatures, rank)],
    ];
  });
  return {
    ...(slots > 1 ? { slot: int32(rows) } : {}),
    on: float32(rows, 1, 1),
    ...Object.fromEntries(pairs),
  };
}

/** -> [rows, vocab] or [rows, length, vocab] */
function logitsOf(model: CausalModel, { shape, inputs, weights }: Step, hidden: Tensor): Tensor {
  const { rows, length } = shape;
  const flat = tf.reshape(hidden, [rows * length, model.shape.hiddenSize]);
  const wanted = shape.logits === 'all' ? flat : tf.gather(flat, inputs.last!);
  const products = tf.matMul(wanted, weights[model.outputWeight] as typeof wanted, false, true);
  const logits = softcap(products, model.logitSoftcap);
  return shape.logits === 'all' ? tf.reshape(logits, [rows, length, model.shape.vocabSize]) : logits;
}

function stepLayers(step: Step): Layers {
  const masks = new Map<number | null, Tensor>();
  const maskFor = (window: number | null): Tensor => {
    const mask = masks.get(window) ?? windowMask(step, window);
    masks.set(window, mask);
    return mask;
  };
  return {
    weight: name => step.weights[name]!,
    linear: (name, x) => linear(step, step.linearLayers.get(name)!, x),
    attend(attention) {
      step.produced[`key.${attention.layer}`] = attention.key;
      step.produced[`value.${attention.layer}`] = attention.value;
      return attend(step, attention, maskFor(attention.window));
    },
  };
}

/** x [rows, length, in] -> [rows, length, out] */
function linear(step: Step, layer: LinearLayer, x: Tensor): Tensor {
  const plain = project(x, step.weights[layer.weight]!, layer.transposed);
  const biased = layer.bias ? tf.add(plain, step.weights[layer.bias]!) : plain;
  const a = step.inputs[`a.${layer.name}`];
  const b = step.inputs[`b.${layer.name}`];
  if (!a || !b) return biased;
  const ofRows = (stacked: Tensor): Tensor =>
    stacked.shape[0] === 1
      ? tf.reshape(stacked, stacked.shape.slice(1))
      : tf.gather(stacked, step.inputs.slot!);
  return tf.add(biased, loraDelta(x, { a: ofRows(a), b: ofRows(b) }, step.inputs.on!));
}

/** The step's mask, with what lies `window` or more positions back hidden too. A cache entry's position is its index. */
function windowMask({ shape, inputs }: Step, window: number | null): Tensor {
  const { rows, length, cache } = shape;
  if (window === null || window >= cache + length) return inputs.mask!;
  const asked = tf.reshape(inputs.positions!, [rows, length, 1]);
  const chunk = tf.sub(asked, tf.reshape(inputs.positions!, [rows, 1, length]));
  const cached = tf.sub(asked, tf.reshape(tf.range(0, Math.max(cache, 1), 1, 'int32'), [1, 1, -1]));
  const back = cache === 0 ? chunk : tf.concat([cached, chunk], 2);
  const far = tf.greaterEqual(back, tf.scalar(window, 'int32'));
  return tf.add(inputs.mask!, tf.mul(tf.cast(far, 'float32'), HIDDEN));
}

/**
 * -> [rows, heads, length, headDim]. Scores against the cache and against the new tokens are joined, not keys and values:
 * the cache, which is the larger part, is read where it lies and never copied.
 */
function attend(step: Step, attention: Attention, mask: Tensor): Tensor {
  const { layer, query, key, value, scale, softcap: cap = null } = attention;
  const { cache, length } = step.shape;
  if (cache === 0) return softmaxAttention(query, key, value, mask, scale, { causal: true, softcap: cap });
  const cachedKey = step.inputs[`key.${layer}`]!;
  const cachedValue = step.inputs[`value.${layer}`]!;
  const [rows, heads, , headDim] = query.shape as [number, number, number, number];
  const kvHeads = key.shape[1]!;
  const grouped = [rows, kvHeads, (heads / kvHeads) * length];
  const asked = tf.reshape(tf.mul(query, scale), [...grouped, headDim]);
  const scores = tf.concat([tf.matMul(asked, cachedKey, false, true), tf.matMul(asked, key, false, true)], 3);
  const masked = tf.add(
    tf.reshape(softcap(scores, cap), [rows, heads, length, cache + length]),
    tf.reshape(mask, [rows, 1, length, cache + length]),
  );
  const weights = tf.reshape(tf.softmax(masked), [...grouped, cache + length]);
  const [onCache, onNew] = tf.split(weights, [cache, length], 3) as [Tensor, Tensor];
  const mixed = tf.add(tf.matMul(onCache, cachedValue), tf.matMul(onNew, value));
  return tf.reshape(mixed, [rows, heads, length, headDim]);
}
