// The `Layers` of training and scoring: whole rows at once, several examples packed into a row, no cache.
import type { Tensor } from '@tensorflow/tfjs';
import { softmaxAttention } from '../engine/ops.ts';
import type { Tensors } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import type { Attention, Layers, LinearLayer, SourceAttention } from './architecture.ts';
import { type LoraPair, loraDelta, project } from './lora.ts';

export interface PackedAdapter {
  /** alpha / rank. */
  readonly scale: number;
  /** By layer name; layers without an entry are not adapted. */
  readonly pairs: Readonly<Record<string, LoraPair>>;
  /** Dropout mask for a layer's input [rows, length, in], entries 0 or 1 / (1 - p). Absent: no dropout. */
  dropoutMask?(layer: LinearLayer, x: Tensor): Tensor;
}

export interface PackedOptions {
  readonly linearLayers: readonly LinearLayer[];
  /** Every tensor of the model by name, frozen or trained. */
  readonly weights: Tensors;
  /**
   * [rows, length] int32: tokens attend only within their own segment. Padding has a segment number that no example of
   * the row uses.
   */
  readonly segments: Tensor;
  readonly adapter?: PackedAdapter | null;
  /** For a decoder: the encoder's states. */
  readonly source?: PackedSource | null;
}

export interface PackedSource {
  /** [rows, sourceLength, hiddenSize] */
  readonly states: Tensor;
  /** [rows, sourceLength] int32: a token sees the source with its own segment number. */
  readonly segments: Tensor;
}

/** The caller provides positions; they start at 0 in every segment. */
export function packedLayers({
  linearLayers,
  weights,
  segments,
  adapter,
  source = null,
}: PackedOptions): Layers {
  const byName = new Map(linearLayers.map(layer => [layer.name, layer]));
  const masks = new Map<string, Tensor>();
  const maskFor = (sight: Sight): Tensor => {
    const key = `${sight.window} ${sight.bothWays ?? false}`;
    const mask = masks.get(key) ?? packedMask(segments, sight);
    masks.set(key, mask);
    return mask;
  };
  const biases = new Map<Attention['bias'], Tensor>();
  const biasFor = (bias: NonNullable<Attention['bias']>): Tensor => {
    const made = biases.get(bias) ?? bias(offsetsWithin(segments.shape[1]!));
    biases.set(bias, made);
    return made;
  };
  const weight = (name: string): Tensor => {
    const found = weights[name];
    if (!found) throw new Error(`no weight '${name}'`);
    return found;
  };
  return {
    weight,
    linear: (name, x) => linear(byName.get(name)!, x, weight, adapter),
    attend({ query, key, value, scale, softcap, bias, ...sight }: Attention) {
      return softmaxAttention(query, key, value, maskFor(sight), scale, {
        causal: !sight.bothWays,
        softcap,
        bias: bias && biasFor(bias),
      });
    },
    ...(source && { attendSource: sourceAttention(segments, source) }),
  };
}

function sourceAttention(segments: Tensor, source: PackedSource): NonNullable<Layers['attendSource']> {
  const mask = additive(sameNumber(segments, source.segments));
  return ({ query, scale, read }: SourceAttention) => {
    const { key, value } = read(source.states);
    return softmaxAttention(query, key, value, mask, scale);
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

/** Masks a score: softmax makes it exactly 0 beside any other. */
const HIDDEN = -1e9;

/** Which keys a token may see, by distance. */
type Sight = Pick<Attention, 'window' | 'bothWays'>;

/**
 * segments [rows, length] -> additive mask [rows, length, length]: 0 where a query (second axis) sees a key (third).
 */
export function packedMask(segments: Tensor, { window, bothWays = false }: Sight): Tensor {
  const back: Tensor = tf.neg(offsetsWithin(segments.shape[1]!));
  const seen = [
    sameNumber(segments, segments),
    ...(bothWays ? [] : [tf.greaterEqual(back, tf.scalar(0, 'int32'))]),
    ...(window === null ? [] : [tf.less(bothWays ? tf.abs(back) : back, tf.scalar(window, 'int32'))]),
  ].reduce((all, each) => tf.logicalAnd(all, each));
  return additive(seen);
}

/** Offset of key (third axis) from query (second axis), negative behind: [1, length, length] int32. */
export function offsetsWithin(length: number): Tensor {
  const index = tf.range(0, length, 1, 'int32');
  return tf.sub(tf.reshape(index, [1, 1, length]), tf.reshape(index, [1, length, 1]));
}

/** [rows, length] and [rows, keys] -> [rows, length, keys] bool */
function sameNumber(segments: Tensor, others: Tensor): Tensor {
  const [rows, length] = segments.shape as [number, number];
  return tf.equal(tf.reshape(segments, [rows, length, 1]), tf.reshape(others, [rows, 1, others.shape[1]!]));
}

/** 0 where seen, HIDDEN elsewhere. */
const additive = (seen: Tensor): Tensor => tf.mul(tf.cast(tf.logicalNot(seen), 'float32'), HIDDEN);
