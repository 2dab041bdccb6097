// GPT-2: learned positions, layer norms, fused query-key-value projections, weights stored [in, out]. The config's
// dropout is not applied; adapters have their own.
import type { Tensor } from '@tensorflow/tfjs';
import { gelu, layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import {
  type ConfigJson,
  readChoice,
  readCount,
  readFlag,
  readPositive,
  readWidthAndHeads,
  refuse,
} from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors, normTensors } from './linear-layers.ts';

interface Gpt2Config {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly tied: boolean;
  readonly scaleByHeadDim: boolean;
  readonly scaleByLayer: boolean;
}

function readConfig(json: ConfigJson): Gpt2Config {
  readChoice(json, 'activation_function', ['gelu_new', 'gelu_pytorch_tanh'], 'gelu_new');
  refuse(json, 'add_cross_attention', false);
  const [hiddenSize, heads] = readWidthAndHeads(json, ['n_embd', 768], ['n_head', 12]);
  return {
    vocabSize: readCount(json, 'vocab_size', 50_257),
    hiddenSize,
    innerSize: readCount(json, 'n_inner', 4 * hiddenSize),
    layers: readCount(json, 'n_layer', 12),
    heads,
    maxPositions: readCount(json, 'n_positions', 1024),
    normEpsilon: readPositive(json, 'layer_norm_epsilon', 1e-5),
    tied: readFlag(json, 'tie_word_embeddings', true),
    scaleByHeadDim: readFlag(json, 'scale_attn_weights', true),
    scaleByLayer: readFlag(json, 'scale_attn_by_inverse_layer_idx', false),
  };
}

const layerPath = (index: number): string => `transformer.h.${index}`;

function linearLayers(c: Gpt2Config): LinearLayer[] {
  const linear = (name: string, inFeatures: number, outFeatures: number): LinearLayer => ({
    ...linearLayer(name, inFeatures, outFeatures, true),
    transposed: true,
  });
  return Array.from({ length: c.layers }, (_, index) => [
    linear(`${layerPath(index)}.attn.c_attn`, c.hiddenSize, 3 * c.hiddenSize),
    linear(`${layerPath(index)}.attn.c_proj`, c.hiddenSize, c.hiddenSize),
    linear(`${layerPath(index)}.mlp.c_fc`, c.hiddenSize, c.innerSize),
    linear(`${layerPath(index)}.mlp.c_proj`, c.innerSize, c.hiddenSize),
  ]).flat();
}

function normPaths(c: Gpt2Config): string[] {
  const perLayer = Array.from({ length: c.layers }, (_, i) => [
    `${layerPath(i)}.ln_1`,
    `${layerPath(i)}.ln_2`,
  ]);
  return [...perLayer.flat(), 'transformer.ln_f'];
}

function tensors(c: Gpt2Config): Record<string, readonly number[]> {
  return Object.fromEntries([
    ['transformer.wte.weight', [c.vocabSize, c.hiddenSize]],
    ['transformer.wpe.weight', [c.maxPositions, c.hiddenSize]],
    ...(c.tied ? [] : [['lm_head.weight', [c.vocabSize, c.hiddenSize]]]),
    ...linearTensors(linearLayers(c)),
    ...normPaths(c).flatMap(path => normTensors(path, c.hiddenSize)),
  ]);
}

/** The published `gpt2` files leave the prefix out and carry the causal mask as buffers. */
function canonicalName(_: Gpt2Config, name: string): string | null {
  if (/\.attn\.(bias|masked_bias)$/.test(name)) return null;
  return name.startsWith('transformer.') || name === 'lm_head.weight' ? name : `transformer.${name}`;
}

function norm(c: Gpt2Config, path: string, x: Tensor, layers: Layers): Tensor {
  return layerNorm(x, layers.weight(`${path}.weight`), layers.weight(`${path}.bias`), c.normEpsilon);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: Gpt2Config, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(index)}.attn`;
  const [query, key, value] = tf
    .split(layers.linear(`${path}.c_attn`, x), 3, -1)
    .map(part => splitHeads(part, c.heads)) as [Tensor, Tensor, Tensor];
  const attended = layers.attend({
    layer: index,
    query,
    key,
    value,
    scale: (c.scaleByHeadDim ? (c.hiddenSize / c.heads) ** -0.5 : 1) / (c.scaleByLayer ? index + 1 : 1),
    window: null,
  });
  return layers.linear(`${path}.c_proj`, mergeHeads(attended));
}

function block(c: Gpt2Config, index: number, x: Tensor, layers: Layers): Tensor {
  const path = layerPath(index);
  const attended = tf.add(x, attention(c, index, norm(c, `${path}.ln_1`, x, layers), layers));
  const inner = layers.linear(`${path}.mlp.c_fc`, norm(c, `${path}.ln_2`, attended, layers));
  return tf.add(attended, layers.linear(`${path}.mlp.c_proj`, gelu(inner)));
}

function hidden(c: Gpt2Config, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  let x: Tensor = tf.add(
    tf.gather(layers.weight('transformer.wte.weight'), tokens),
    tf.gather(layers.weight('transformer.wpe.weight'), positions),
  );
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, layers);
  return norm(c, 'transformer.ln_f', x, layers);
}

export const gpt2: Architecture<Gpt2Config> = {
  name: 'gpt2',
  kind: 'causal',
  serves: ['GPT2LMHeadModel'],
  readConfig,
  shape: c => ({
    layers: c.layers,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.heads,
    headDim: c.hiddenSize / c.heads,
    vocabSize: c.vocabSize,
    maxPositions: c.maxPositions,
  }),
  tensors,
  canonicalName,
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? 'transformer.wte.weight' : 'lm_head.weight'),
};
