// The `Layers` that training and scoring run with: whole rows at once, several examples packed into a row, no cache.
import type { Tensor } from '@tensorflow/tfjs';
import { softmaxAttention } from '../engine/ops.ts';
import type { Tensors } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import type { Attention, Layers, LinearLayer } from './architecture.ts';
import { type LoraPair, loraDelta, project } from './lora.ts';

export interface PackedAdapter {
  /** alpha / rank. */
  readonly scale: number;
  /** By layer name; layers without an entry are not adapted. */
  readonly pairs: Readonly<Record<string, LoraPair>>;
  /** Dropout's mask for a layer's input: its shape [rows, length, in], entries 0 or 1 / (1 - p). Absent: no dropout. */
  dropoutMask?(layer: LinearLayer, x: Tensor): Tensor;
}

export interface PackedOptions {
  readonly linearLayers: readonly LinearLayer[];
  /** Every tensor of the model by name, frozen or trained. */
  readonly weights: Tensors;
  /** [rows, length] int32: tokens attend only within their own number. Padding takes any number that no example of the row has. */
  readonly segments: Tensor;
  readonly adapter?: PackedAdapter | null;
}

/** Positions are the caller's: they start anew at 0 with every segment. */
export function packedLayers({ linearLayers, weights, segments, adapter }: PackedOptions): Layers {
  const byName = new Map(linearLayers.map(layer => [layer.name, layer]));
  const masks = new Map<string, Tensor>();
  const maskFor = (sight: Sight): Tensor => {
    const key = `${sight.window} ${sight.bothWays ?? false}`;
    const mask = masks.get(key) ?? packedMask(segments, sight);
    masks.set(key, mask);
    return mask;
  };
  const weight = (name: string): Tensor => {
    const found = weights[name];
    if (!found) throw new Error(`no weight '${name}'`);
    return found;
  };
  return {
    weight,
    linear: (name, x) => linear(byName.get(name)!, x, weight, adapter),
    attend({ query, key, value, scale, softcap, ...sight }: Attention) {
      return softmaxAttention(query, key, value, maskFor(sight), scale, { causal: !sight.bothWays, softcap });
    },
  };
}

/** x [rows, length, in] -> [rows, length, out] */
function linear(
  layer: LinearLayer,
  x: Tensor,
  weight: (name: string) => Tensor,
  adapter: PackedAdapter | null | undefined,
): Tensor {
  const plain = project(x, weight(layer.weight), layer.transposed);
  const biased = layer.bias ? tf.add(plain, weight(layer.bias)) : plain;
  const pair = adapter?.pairs[layer.name];
  if (!adapter || !pair) return biased;
  return tf.add(biased, loraDelta(x, pair, adapter.scale, adapter.dropoutMask?.(layer, x)));
}

/** A score that softmax turns into exactly 0 beside any other. */
const HIDDEN = -1e9;

/** How far a token sees. */
type Sight = Pick<Attention, 'window' | 'bothWays'>;

/** segments [rows, length] -> additive mask [rows, length, length]: 0 where a token (second axis) sees another (third). */
export function packedMask(segments: Tensor, { window, bothWays = false }: Sight): Tensor {
  const [rows, length] = segments.shape as [number, number];
  const index = tf.range(0, length, 1, 'int32');
  const back: Tensor = tf.sub(tf.reshape(index, [1, length, 1]), tf.reshape(index, [1, 1, length]));
  const seen = [
    tf.equal(tf.reshape(segments, [rows, length, 1]), tf.reshape(segments, [rows, 1, length])),
    ...(bothWays ? [] : [tf.greaterEqual(back, tf.scalar(0, 'int32'))]),
    ...(window === null ? [] : [tf.less(bothWays ? tf.abs(back) : back, tf.scalar(window, 'int32'))]),
  ].reduce((all, each) => tf.logicalAnd(all, each));
  return tf.mul(tf.cast(tf.logicalNot(seen), 'float32'), HIDDEN);
}
