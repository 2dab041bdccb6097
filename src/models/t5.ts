// T5, T5 v1.1 and FLAN-T5 (https://arxiv.org/abs/1910.10683): RMS norm before each sublayer, unscaled attention scores
// with a learned relative position bias, no other biases. The config's dropout is not applied; adapters have their own.
import type { Tensor } from '@tensorflow/tfjs';
import { rmsNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { ACTIVATION_NAMES, type Activation, readActivation } from './activations.ts';
import type { Architecture, Attention, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readChoice, readCount, readFlag, readPositive } from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors, type NamedShape } from './linear-layers.ts';

interface T5Config {
  /** Prefix of all tensor names: classes with a classification head nest the T5 under one. */
  readonly prefix: string;
  /** False with a classification head: no output projection. */
  readonly generates: boolean;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly encoderLayers: number;
  readonly decoderLayers: number;
  readonly heads: number;
  readonly headDim: number;
  readonly buckets: number;
  readonly maxDistance: number;
  readonly normEpsilon: number;
  readonly activation: Activation;
  readonly gated: boolean;
  /** The original T5 scales the input of its output projection, which is tied; v1.1 and FLAN-T5 have an untied one. */
  readonly scaled: boolean;
  readonly tied: boolean;
}

const WITH_HEAD = 'T5ForSequenceClassification';
const PREFIX = 'transformer.';

const GATED = 'gated-';

/** `relu`, or `gated-gelu` and the like. `gated-gelu` means GELU's tanh form: see transformers' configuration_t5.py. */
function readFeedForward(json: ConfigJson): Pick<T5Config, 'activation' | 'gated'> {
  const choices = ACTIVATION_NAMES.flatMap(name => [name, GATED + name]);
  const chosen = readChoice(json, 'feed_forward_proj', choices, 'relu');
  const gated = chosen.startsWith(GATED);
  const name = gated ? chosen.slice(GATED.length) : chosen;
  const act = gated && name === 'gelu' ? 'gelu_new' : name;
  return { gated, activation: readActivation({ act }, 'act', 'relu') };
}

function readConfig(json: ConfigJson, served: string): T5Config {
  const generates = served !== WITH_HEAD;
  const encoderLayers = readCount(json, 'num_layers', 6);
  const tied = readFlag(json, 'tie_word_embeddings', true);
  return {
    prefix: generates ? '' : PREFIX,
    generates,
    vocabSize: readCount(json, 'vocab_size', 32_128),
    hiddenSize: readCount(json, 'd_model', 512),
    innerSize: readCount(json, 'd_ff', 2048),
    encoderLayers,
    decoderLayers: readCount(json, 'num_decoder_layers', encoderLayers),
    heads: readCount(json, 'num_heads', 8),
    headDim: readCount(json, 'd_kv', 64),
    buckets: readCount(json, 'relative_attention_num_buckets', 32),
    maxDistance: readCount(json, 'relative_attention_max_distance', 128),
    normEpsilon: readPositive(json, 'layer_norm_epsilon', 1e-6),
    ...readFeedForward(json),
    scaled: generates && readFlag(json, 'scale_decoder_outputs', tied),
    tied,
  };
}

/** transformers 5 writes tie_word_embeddings true for every T5; an untied projection shows only in the tensors. */
const withTensors = (c: T5Config, names: ReadonlySet<string>): T5Config => ({
  ...c,
  tied: c.scaled ? c.tied : !names.has('lm_head.weight'),
});

type Side = 'encoder' | 'decoder';

const layerCount = (c: T5Config, side: Side): number =>
  side === 'encoder' ? c.encoderLayers : c.decoderLayers;

const partPath = (c: T5Config, side: Side, index: number, part: number): string =>
  `${c.prefix}${side}.block.${index}.layer.${part}`;

/** Index of a layer's feed-forward sublayer: in the decoder, cross-attention comes before it. */
const feedForwardPart = (side: Side): number => (side === 'encoder' ? 1 : 2);

const eachLayer = <Made>(c: T5Config, make: (side: Side, index: number) => Made[]): Made[] =>
  (['encoder', 'decoder'] as const).flatMap(side =>
    Array.from({ length: layerCount(c, side) }, (_, index) => make(side, index)).flat(),
  );

function layerLinears(c: T5Config, side: Side, index: number): LinearLayer[] {
  const inner = c.heads * c.headDim;
  const forward = `${partPath(c, side, index, feedForwardPart(side))}.DenseReluDense`;
  const attention = (path: string, ofSource: readonly string[]): LinearLayer[] => [
    ...['q', 'k', 'v'].map(kind => ({
      ...linearLayer(`${path}.${kind}`, c.hiddenSize, inner),
      ofSource: side === 'encoder' || ofSource.includes(kind),
    })),
    { ...linearLayer(`${path}.o`, inner, c.hiddenSize), ofSource: side === 'encoder' },
  ];
  return [
    ...attention(`${partPath(c, side, index, 0)}.SelfAttention`, []),
    ...(side === 'decoder' ? attention(`${partPath(c, side, index, 1)}.EncDecAttention`, ['k', 'v']) : []),
    ...(c.gated ? ['wi_0', 'wi_1'] : ['wi']).map(name => ({
      ...linearLayer(`${forward}.${name}`, c.hiddenSize, c.innerSize),
      ofSource: side === 'encoder',
    })),
    { ...linearLayer(`${forward}.wo`, c.innerSize, c.hiddenSize), ofSource: side === 'encoder' },
  ];
}

const linearLayers = (c: T5Config): LinearLayer[] =>
  eachLayer(c, (side, index) => layerLinears(c, side, index));

/** All layers of a side share the first layer's bias. */
const biasName = (c: T5Config, side: Side): string =>
  `${partPath(c, side, 0, 0)}.SelfAttention.relative_attention_bias.weight`;

const tableName = (c: T5Config): string => `${c.prefix}shared.weight`;

function tensors(c: T5Config): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    [tableName(c), table],
    ...(c.tied || !c.generates ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...eachLayer(c, (side, index): NamedShape[] =>
      Array.from({ length: feedForwardPart(side) + 1 }, (_, part) => [
        `${partPath(c, side, index, part)}.layer_norm.weight`,
        [c.hiddenSize],
      ]),
    ),
    ...(['encoder', 'decoder'] as const).flatMap((side): NamedShape[] => [
      [biasName(c, side), [c.buckets, c.heads]],
      [`${c.prefix}${side}.final_layer_norm.weight`, [c.hiddenSize]],
    ]),
  ]);
}

/**
 * The buckets of distances 0, 1, ... `maxDistance`: exact ones, then logarithmically wider ones; all larger distances
 * share the last. In float32, like transformers' `_relative_position_bucket`, whose rounding decides at the boundaries.
 */
export function distanceBuckets(buckets: number, maxDistance: number): number[] {
  const exact = Math.floor(buckets / 2);
  const span = Math.fround(Math.log(maxDistance / exact));
  return Array.from({ length: maxDistance + 1 }, (_, distance) => {
    if (distance < exact) return distance;
    const share = Math.fround(Math.fround(Math.log(Math.fround(distance / exact))) / span);
    return Math.min(buckets - 1, exact + Math.trunc(Math.fround(share * (buckets - exact))));
  });
}

/**
 * Buckets of the offsets from -maxDistance to maxDistance. A decoder has no buckets for keys ahead, which it never
 * sees.
 */
function offsetBuckets(c: T5Config, side: Side): Int32Array {
  const half = side === 'encoder' ? Math.floor(c.buckets / 2) : c.buckets;
  const behind = distanceBuckets(half, c.maxDistance);
  const ahead = side === 'encoder' ? behind.map(bucket => bucket + half) : behind.map(() => 0);
  return Int32Array.from([...behind.toReversed(), ...ahead.slice(1)]);
}

function distanceBias(c: T5Config, side: Side, layers: Layers): NonNullable<Attention['bias']> {
  const byOffset: Tensor = tf.gather(
    layers.weight(biasName(c, side)),
    tf.tensor1d(offsetBuckets(c, side), 'int32'),
  );
  return offsets => {
    const limit = tf.scalar(c.maxDistance, 'int32');
    const near = tf.minimum(tf.maximum(offsets, tf.neg(limit)), limit);
    return tf.transpose(tf.gather(byOffset, tf.add(near, limit)), [0, 3, 1, 2]);
  };
}

const norm = (c: T5Config, path: string, x: Tensor, layers: Layers): Tensor =>
  rmsNorm(x, layers.weight(`${path}.weight`), c.normEpsilon);

/** x [rows, length, hidden] -> [rows, length, hidden] */
function selfAttention(
  c: T5Config,
  side: Side,
  index: number,
  x: Tensor,
  bias: NonNullable<Attention['bias']>,
  layers: Layers,
): Tensor {
  const path = `${partPath(c, side, index, 0)}.SelfAttention`;
  const heads = (kind: string): Tensor => splitHeads(layers.linear(`${path}.${kind}`, x), c.heads);
  const attended = layers.attend({
    layer: index,
    query: heads('q'),
    key: heads('k'),
    value: heads('v'),
    scale: 1,
    window: null,
    bothWays: side === 'encoder',
    bias,
  });
  return layers.linear(`${path}.o`, mergeHeads(attended));
}

function sourceAttention(c: T5Config, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${partPath(c, 'decoder', index, 1)}.EncDecAttention`;
  const heads = (kind: string, of: Tensor): Tensor =>
    splitHeads(layers.linear(`${path}.${kind}`, of), c.heads);
  const attended = layers.attendSource!({
    layer: index,
    query: heads('q', x),
    scale: 1,
    read: states => ({ key: heads('k', states), value: heads('v', states) }),
  });
  return layers.linear(`${path}.o`, mergeHeads(attended));
}

function feedForward(c: T5Config, path: string, x: Tensor, layers: Layers): Tensor {
  const forward = `${path}.DenseReluDense`;
  const inner = c.gated
    ? tf.mul(c.activation(layers.linear(`${forward}.wi_0`, x)), layers.linear(`${forward}.wi_1`, x))
    : c.activation(layers.linear(`${forward}.wi`, x));
  return layers.linear(`${forward}.wo`, inner);
}

function stack(c: T5Config, side: Side, tokens: Tensor, layers: Layers): Tensor {
  const bias = distanceBias(c, side, layers);
  const last = feedForwardPart(side);
  let x: Tensor = tf.gather(layers.weight(tableName(c)), tokens);
  for (let index = 0; index < layerCount(c, side); index++) {
    const path = (part: number) => partPath(c, side, index, part);
    const normed = (part: number) => norm(c, `${path(part)}.layer_norm`, x, layers);
    x = tf.add(x, selfAttention(c, side, index, normed(0), bias, layers));
    if (side === 'decoder') x = tf.add(x, sourceAttention(c, index, normed(1), layers));
    x = tf.add(x, feedForward(c, path(last), normed(last), layers));
  }
  return norm(c, `${c.prefix}${side}.final_layer_norm`, x, layers);
}

const HEADS = /^(lm_head|classification_head)\./;

/** The first files contain a bias for cross-attention that is never used. */
function canonicalName(c: T5Config, name: string): string | null {
  if (name.endsWith('.EncDecAttention.relative_attention_bias.weight')) return null;
  const bare = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name;
  return /^(shared|encoder|decoder)\./.test(bare) ? c.prefix + bare : name;
}

/** Relative positions have no limit; this is the number of source tokens, and of answer tokens, that we allow. */
const MAX_POSITIONS = 4096;

export const t5: Architecture<T5Config> = {
  name: 't5',
  kind: 'encoder-decoder',
  serves: ['T5ForConditionalGeneration', WITH_HEAD],
  readConfig,
  withTensors,
  shape: c => ({
    layers: c.decoderLayers,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.heads,
    headDim: c.headDim,
    vocabSize: c.vocabSize,
    maxPositions: MAX_POSITIONS,
  }),
  tensors,
  canonicalName,
  copies: c => ({
    [`${c.prefix}encoder.embed_tokens.weight`]: tableName(c),
    [`${c.prefix}decoder.embed_tokens.weight`]: tableName(c),
  }),
  isHead: (c, name) => !c.generates && HEADS.test(name),
  linearLayers,
  encode: (c, tokens, _positions, layers) => stack(c, 'encoder', tokens, layers),
  hidden(c, tokens, _positions, layers) {
    const states = stack(c, 'decoder', tokens, layers);
    return c.scaled ? tf.mul(states, c.hiddenSize ** -0.5) : states;
  },
  outputWeight(c) {
    if (!c.generates) return null;
    return c.tied ? tableName(c) : 'lm_head.weight';
  },
};
