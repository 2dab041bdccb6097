// Splits the feature axis into attention heads and merges them back.
import type { Tensor } from '@tensorflow/tfjs';
import { tf } from '../engine/tf.ts';

/** x [rows, length, count * headDim] -> [rows, count, length, headDim] */
export function splitHeads(x: Tensor, count: number): Tensor {
  const [rows, length, features] = x.shape as [number, number, number];
  return tf.transpose(tf.reshape(x, [rows, length, count, features / count]), [0, 2, 1, 3]);
}

/** x [rows, heads, length, headDim] -> [rows, length, heads * headDim] */
export function mergeHeads(x: Tensor): Tensor {
  const [rows, heads, length, headDim] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [rows, length, heads * headDim]);
}

export interface Heads {
  /** [rows, heads, length, headDim] */
  readonly query: Tensor;
  /** [rows, kvHeads, length, headDim] each. */
  readonly key: Tensor;
  readonly value: Tensor;
}

/**
 * Splits a fused projection that is grouped by key head: its query heads, the key, the value (GPT-NeoX, Falcon). x
 * [rows, length, kvHeads * (heads / kvHeads + 2) * headDim]
 */
export function splitGroups(x: Tensor, heads: number, kvHeads: number): Heads {
  const [rows, length, features] = x.shape as [number, number, number];
  const group = heads / kvHeads;
  const headDim = features / (heads + 2 * kvHeads);
  const grouped = tf.reshape(x, [rows, length, kvHeads, group + 2, headDim]);
  const [query, key, value] = tf
    .split(tf.transpose(grouped, [0, 2, 3, 1, 4]), [group, 1, 1], 2)
    .map(part => tf.reshape(part, [rows, -1, length, headDim])) as [Tensor, Tensor, Tensor];
  return { query, key, value };
}

/**
 * Moves pairs (2 i, 2 i + 1) of a head to (i, i + headDim / 2), the layout of `rotary`. Scores do not change, as
 * queries and keys are permuted alike.
 */
export function separatePairs(x: Tensor): Tensor {
  const [rows, heads, length, headDim] = x.shape as [number, number, number, number];
  const pairs = tf.reshape(x, [rows, heads, length, headDim / 2, 2]);
  return tf.reshape(tf.transpose(pairs, [0, 1, 2, 4, 3]), [rows, heads, length, headDim]);
}
