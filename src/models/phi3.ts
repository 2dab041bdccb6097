// Phi-3 (and 3.5, and the text model of Phi-4 mini): Llama's block with fused query-key-value and gate-up projections.
// LongRoPE models are supported up to their original context length. The config's dropout is not applied; adapters have
// their own.
import type { Tensor } from '@tensorflow/tfjs';
import { rmsNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, readHeadCounts, readPositive } from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors } from './linear-layers.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface Phi3Config {
  readonly vocabSize: number;
  readonly padId: number | null;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly tied: boolean;
  readonly window: number | null;
  readonly activation: Activation;
  readonly rope: Rope;
}

function readConfig(json: ConfigJson): Phi3Config {
  const hiddenSize = readCount(json, 'hidden_size');
  const { heads, kvHeads } = readHeadCounts(json);
  const headDim = readCount(json, 'head_dim', hiddenSize / heads);
  const rope = readRope(json, headDim, { partial: 1, types: ['default', 'longrope'] });
  const maxPositions = readCount(json, 'max_position_embeddings', 4096);
  return {
    vocabSize: readCount(json, 'vocab_size'),
    padId: readPadId(json, 32_000),
    hiddenSize,
    intermediateSize: readCount(json, 'intermediate_size'),
    layers: readCount(json, 'num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    maxPositions: Math.min(maxPositions, rope.limit ?? maxPositions),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-5),
    tied: readFlag(json, 'tie_word_embeddings', false),
    window: json.sliding_window == null ? null : readCount(json, 'sliding_window'),
    activation: readActivation(json, 'hidden_act', 'silu'),
    rope,
  };
}

const layerPath = (index: number): string => `model.layers.${index}`;

/** Sizes of queries, keys and values in the fused projection. */
const jointSizes = (c: Phi3Config): [number, number, number] => [
  c.heads * c.headDim,
  c.kvHeads * c.headDim,
  c.kvHeads * c.headDim,
];

const linearLayers = (c: Phi3Config): LinearLayer[] =>
  Array.from({ length: c.layers }, (_, index) => {
    const path = layerPath(index);
    const [queries, keys, values] = jointSizes(c);
    return [
      linearLayer(`${path}.self_attn.qkv_proj`, c.hiddenSize, queries + keys + values),
      linearLayer(`${path}.self_attn.o_proj`, queries, c.hiddenSize),
      linearLayer(`${path}.mlp.gate_up_proj`, c.hiddenSize, 2 * c.intermediateSize),
      linearLayer(`${path}.mlp.down_proj`, c.intermediateSize, c.hiddenSize),
    ];
  }).flat();

function tensors(c: Phi3Config): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    ['model.embed_tokens.weight', table],
    ...(c.tied ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...Array.from({ length: c.layers }, (_, index) => [
      [`${layerPath(index)}.input_layernorm.weight`, [c.hiddenSize]],
      [`${layerPath(index)}.post_attention_layernorm.weight`, [c.hiddenSize]],
    ]).flat(),
    ['model.norm.weight', [c.hiddenSize]],
  ]);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: Phi3Config, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.self_attn`;
  const [query, key, value] = tf.split(layers.linear(`${path}.qkv_proj`, x), jointSizes(c), 2) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const attended = layers.attend({
    layer: index,
    query: turnHeads(splitHeads(query, c.heads), angles),
    key: turnHeads(splitHeads(key, c.kvHeads), angles),
    value: splitHeads(value, c.kvHeads),
    scale: c.headDim ** -0.5,
    window: c.window,
  });
  return layers.linear(`${path}.o_proj`, mergeHeads(attended));
}

/** SwiGLU. */
function mlp(c: Phi3Config, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(index)}.mlp`;
  const [gate, up] = tf.split(layers.linear(`${path}.gate_up_proj`, x), 2, 2) as [Tensor, Tensor];
  return layers.linear(`${path}.down_proj`, tf.mul(c.activation(gate), up));
}

function block(c: Phi3Config, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const norm = (input: Tensor, name: string): Tensor =>
    rmsNorm(input, layers.weight(`${layerPath(index)}.${name}.weight`), c.normEpsilon);
  const attended = tf.add(x, attention(c, index, norm(x, 'input_layernorm'), angles, layers));
  return tf.add(attended, mlp(c, index, norm(attended, 'post_attention_layernorm'), layers));
}

function hidden(c: Phi3Config, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = rotaryAngles(positions, c.rope);
  let x: Tensor = embedTokens(layers.weight('model.embed_tokens.weight'), tokens, c.padId);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, angles, layers);
  return rmsNorm(x, layers.weight('model.norm.weight'), c.normEpsilon);
}

export const phi3: Architecture<Phi3Config> = {
  name: 'phi3',
  kind: 'causal',
  serves: ['Phi3ForCausalLM'],
  readConfig,
  shape: c => c,
  tensors,
  canonicalName: (_, name) => (name.endsWith('.rotary_emb.inv_freq') ? null : name),
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight'),
};
