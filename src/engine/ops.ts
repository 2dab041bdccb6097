// The compound ops of language models, with signatures that every engine can run fused. A program may use these or any op of `tf`.
// Randomness (dropout) is not here: a traced program has none of its own, so masks come in as inputs.
import type { Tensor } from '@tensorflow/tfjs';
import { tf } from './tf.ts';

/** x [..., n], weight [n] -> [..., n]: x / sqrt(mean(x^2) + eps) * weight. https://arxiv.org/abs/1910.07467 */
export const rmsNorm = (x: Tensor, weight: Tensor, eps: number): Tensor =>
  x.mul(x.square().mean(-1, true).add(eps).rsqrt()).mul(weight);

/** x [..., n], weight [n], bias [n] -> [..., n]. https://arxiv.org/abs/1607.06450 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  const centred = x.sub(x.mean(-1, true));
  return centred.mul(centred.square().mean(-1, true).add(eps).rsqrt()).mul(weight).add(bias);
}

/** GELU in the tanh form that GPT-2 was trained with (`gelu_new`). */
export function gelu(x: Tensor): Tensor {
  const inner = x.add(x.mul(x).mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
  return x.mul(0.5).mul(inner.tanh().add(1));
}

/** x * sigmoid(x). */
export const silu = (x: Tensor): Tensor => x.mul(x.sigmoid());

/**
 * Rotary positions, in the form of Llama's Hugging Face code: element i is paired with element i + headDim / 2.
 * x [rows, heads, length, headDim]; cos, sin [rows, length, headDim / 2], taken as constants (they get no gradient).
 */
export function rotary(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const [first, second] = tf.split(x, 2, 3) as [Tensor, Tensor];
  const c = cos.expandDims(1);
  const s = sin.expandDims(1);
  return tf.concat([first.mul(c).sub(second.mul(s)), second.mul(c).add(first.mul(s))], 3);
}

export interface AttentionOptions {
  /** Promise that the mask hides every key after its query (length = keys): the hidden half is then not computed. */
  readonly causal?: boolean;
}

/**
 * softmax(query key^T * scale + mask) value.
 * query [rows, heads, length, headDim]; key, value [rows, kvHeads, keys, headDim], where query head h reads key head
 * floor(h * kvHeads / heads); mask [rows or 1, length, keys] is added (0 or a large negative number such as -1e9; it gets no gradient).
 * -> [rows, heads, length, headDim]. A query that sees no key averages over all keys it was given.
 */
export function softmaxAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  mask: Tensor,
  scale: number,
  _options: AttentionOptions = {},
): Tensor {
  const [rows, heads, length, headDim] = query.shape as [number, number, number, number];
  const [, kvHeads, keys] = key.shape as [number, number, number, number];
  const group = heads / kvHeads;
  const grouped = query.reshape([rows, kvHeads, group * length, headDim]);
  const scores = tf.matMul(grouped, key, false, true).mul(scale);
  const masked = scores
    .reshape([rows, kvHeads, group, length, keys])
    .add(mask.reshape([-1, 1, 1, length, keys]));
  const weights = tf.softmax(masked).reshape([rows, kvHeads, group * length, keys]);
  return tf.matMul(weights, value).reshape([rows, heads, length, headDim]);
}

export interface CrossEntropySums {
  /** Scalar float32: sum of -log p(target) over the rows that have a target. */
  readonly lossSum: Tensor;
  /** Scalar int32: rows whose most probable token is the target. */
  readonly correct: Tensor;
  /** Scalar int32: rows that have a target. */
  readonly count: Tensor;
}

/**
 * Cross-entropy of a language model's output layer, without ever holding [n, vocab] for all rows at once.
 * hidden [n, width], outputWeight [vocab, width], targets [n] int32, -1 where a row has none: such rows cost nothing.
 * Gradients flow from `lossSum` into hidden and outputWeight.
 */
export function crossEntropySums(hidden: Tensor, outputWeight: Tensor, targets: Tensor): CrossEntropySums {
  const vocab = outputWeight.shape[0]!;
  const has = targets.greaterEqual(0);
  const logits = tf.matMul(hidden as never, outputWeight as never, false, true) as Tensor;
  const losses = tf
    .logSoftmax(logits)
    .mul(tf.oneHot(targets.maximum(0).toInt(), vocab))
    .sum(-1)
    .neg();
  return {
    lossSum: losses.mul(has.toFloat()).sum(),
    correct: logits.argMax(-1).equal(targets).logicalAnd(has).toInt().sum(),
    count: has.toInt().sum(),
  };
}
