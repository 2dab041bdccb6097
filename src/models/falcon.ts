// Falcon: fused query-key-value projections grouped by key head (one in 7B, several in 40B and 11B), attention and MLP
// in parallel or in sequence. Variants with ALiBi instead of rotary positions (Falcon-RW) are refused.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, readPositive, refuse } from './config-fields.ts';
import { mergeHeads, splitGroups } from './heads.ts';
import { linearLayer, linearTensors, normTensors } from './linear-layers.ts';
import { ModelError } from './model-error.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';

/** The norms before attention and before the MLP; applied once if they are the same. */
interface Norms {
  readonly attention: string;
  readonly mlp: string;
}

interface FalconConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly tied: boolean;
  readonly bias: boolean;
  readonly parallel: boolean;
  readonly norms: Norms;
  readonly activation: Activation;
  readonly rope: Rope;
}

const ONE_NORM: Norms = { attention: 'input_layernorm', mlp: 'input_layernorm' };
const TWO_NORMS: Norms = { attention: 'ln_attn', mlp: 'ln_mlp' };
const SERIAL_NORMS: Norms = { attention: 'input_layernorm', mlp: 'post_attention_layernorm' };

/** Key heads, block order and norms of the three generations of Falcon. */
function readGeneration(
  json: ConfigJson,
  heads: number,
): Pick<FalconConfig, 'kvHeads' | 'parallel' | 'norms'> {
  if (readFlag(json, 'new_decoder_architecture', false)) {
    const kvHeads = readCount(json, 'num_kv_heads', heads);
    return {
      kvHeads,
      parallel: true,
      norms: readCount(json, 'num_ln_in_parallel_attn', 2) === 2 ? TWO_NORMS : ONE_NORM,
    };
  }
  const kvHeads = readFlag(json, 'multi_query', true) ? 1 : heads;
  const parallel = readFlag(json, 'parallel_attn', true);
  return { kvHeads, parallel, norms: parallel ? ONE_NORM : SERIAL_NORMS };
}

function readConfig(json: ConfigJson): FalconConfig {
  refuse(json, 'alibi', false);
  const hiddenSize = readCount(json, 'hidden_size');
  const heads = readCount(json, 'num_attention_heads');
  const generation = readGeneration(json, heads);
  if (hiddenSize % heads !== 0 || heads % generation.kvHeads !== 0) {
    throw new ModelError(
      `config.json: hidden_size ${hiddenSize}, num_attention_heads ${heads} and num_kv_heads ${generation.kvHeads} do not divide`,
    );
  }
  return {
    ...generation,
    vocabSize: readCount(json, 'vocab_size'),
    hiddenSize,
    innerSize: readCount(json, 'ffn_hidden_size', 4 * hiddenSize),
    layers: readCount(json, 'num_hidden_layers'),
    heads,
    maxPositions: readCount(json, 'max_position_embeddings', 2048),
    normEpsilon: readPositive(json, 'layer_norm_epsilon', 1e-5),
    tied: readFlag(json, 'tie_word_embeddings', true),
    bias: readFlag(json, 'bias', false),
    activation: readActivation(json, 'activation', 'gelu'),
    rope: readRope(json, hiddenSize / heads),
  };
}

const EMBEDDING = 'transformer.word_embeddings.weight';

const layerPath = (index: number): string => `transformer.h.${index}`;

const linearLayers = (c: FalconConfig): LinearLayer[] =>
  Array.from({ length: c.layers }, (_, index) => {
    const path = layerPath(index);
    const joint = c.hiddenSize + (2 * c.kvHeads * c.hiddenSize) / c.heads;
    return [
      linearLayer(`${path}.self_attention.query_key_value`, c.hiddenSize, joint, c.bias),
      linearLayer(`${path}.self_attention.dense`, c.hiddenSize, c.hiddenSize, c.bias),
      linearLayer(`${path}.mlp.dense_h_to_4h`, c.hiddenSize, c.innerSize, c.bias),
      linearLayer(`${path}.mlp.dense_4h_to_h`, c.innerSize, c.hiddenSize, c.bias),
    ];
  }).flat();

function normPaths(c: FalconConfig): string[] {
  const names = [...new Set([c.norms.attention, c.norms.mlp])];
  const perLayer = Array.from({ length: c.layers }, (_, index) =>
    names.map(name => `${layerPath(index)}.${name}`),
  );
  return [...perLayer.flat(), 'transformer.ln_f'];
}

function tensors(c: FalconConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    [EMBEDDING, table],
    ...(c.tied ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...normPaths(c).flatMap(path => normTensors(path, c.hiddenSize)),
  ]);
}

function norm(c: FalconConfig, path: string, x: Tensor, layers: Layers): Tensor {
  return layerNorm(x, layers.weight(`${path}.weight`), layers.weight(`${path}.bias`), c.normEpsilon);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: FalconConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.self_attention`;
  const { query, key, value } = splitGroups(layers.linear(`${path}.query_key_value`, x), c.heads, c.kvHeads);
  const attended = layers.attend({
    layer: index,
    query: turnHeads(query, angles),
    key: turnHeads(key, angles),
    value,
    scale: (c.hiddenSize / c.heads) ** -0.5,
    window: null,
  });
  return layers.linear(`${path}.dense`, mergeHeads(attended));
}

function mlp(c: FalconConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(index)}.mlp`;
  return layers.linear(`${path}.dense_4h_to_h`, c.activation(layers.linear(`${path}.dense_h_to_4h`, x)));
}

function block(c: FalconConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const normed = (input: Tensor, name: string): Tensor =>
    norm(c, `${layerPath(index)}.${name}`, input, layers);
  const first = normed(x, c.norms.attention);
  const attended = tf.add(x, attention(c, index, first, angles, layers));
  const second = c.norms.mlp === c.norms.attention ? first : normed(c.parallel ? x : attended, c.norms.mlp);
  return tf.add(attended, mlp(c, index, second, layers));
}

function hidden(c: FalconConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = rotaryAngles(positions, c.rope);
  let x: Tensor = tf.gather(layers.weight(EMBEDDING), tokens);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, angles, layers);
  return norm(c, 'transformer.ln_f', x, layers);
}

export const falcon: Architecture<FalconConfig> = {
  name: 'falcon',
  kind: 'causal',
  serves: ['FalconForCausalLM'],
  readConfig,
  shape: c => ({
    layers: c.layers,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.kvHeads,
    headDim: c.hiddenSize / c.heads,
    vocabSize: c.vocabSize,
    maxPositions: c.maxPositions,
  }),
  tensors,
  canonicalName: (_, name) => (name.endsWith('.rotary_emb.inv_freq') ? null : name),
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? EMBEDDING : 'lm_head.weight'),
};
