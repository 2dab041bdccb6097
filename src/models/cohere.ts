// Cohere (Command R and R+): parallel attention and MLP after one layer norm without bias, rotary positions on adjacent
// elements, scaled logits. Command R7B and A (Cohere2) are other architectures.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, readHeadCounts, readPositive } from './config-fields.ts';
import { mergeHeads, separatePairs } from './heads.ts';
import { linearLayer, linearTensors, type NamedShape } from './linear-layers.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface CohereConfig {
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
  readonly bias: boolean;
  readonly queryKeyNorm: boolean;
  readonly logitScale: number;
  readonly activation: Activation;
  readonly rope: Rope;
}

function readConfig(json: ConfigJson): CohereConfig {
  const hiddenSize = readCount(json, 'hidden_size');
  const { heads, kvHeads } = readHeadCounts(json);
  const headDim = readCount(json, 'head_dim', hiddenSize / heads);
  return {
    vocabSize: readCount(json, 'vocab_size'),
    padId: readPadId(json, 0),
    hiddenSize,
    intermediateSize: readCount(json, 'intermediate_size'),
    layers: readCount(json, 'num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    maxPositions: readCount(json, 'max_position_embeddings', 8192),
    normEpsilon: readPositive(json, 'layer_norm_eps', 1e-5),
    tied: readFlag(json, 'tie_word_embeddings', true),
    bias: readFlag(json, 'attention_bias', false),
    queryKeyNorm: readFlag(json, 'use_qk_norm', false),
    logitScale: readPositive(json, 'logit_scale', 0.0625),
    activation: readActivation(json, 'hidden_act', 'silu'),
    rope: readRope(json, headDim, { theta: 500_000 }),
  };
}

const layerPath = (index: number): string => `model.layers.${index}`;

const eachLayer = <Made>(c: CohereConfig, make: (path: string) => Made[]): Made[] =>
  Array.from({ length: c.layers }, (_, index) => make(layerPath(index))).flat();

const linearLayers = (c: CohereConfig): LinearLayer[] =>
  eachLayer(c, path => {
    const queries = c.heads * c.headDim;
    const keys = c.kvHeads * c.headDim;
    return [
      linearLayer(`${path}.self_attn.q_proj`, c.hiddenSize, queries, c.bias),
      linearLayer(`${path}.self_attn.k_proj`, c.hiddenSize, keys, c.bias),
      linearLayer(`${path}.self_attn.v_proj`, c.hiddenSize, keys, c.bias),
      linearLayer(`${path}.self_attn.o_proj`, queries, c.hiddenSize, c.bias),
      linearLayer(`${path}.mlp.gate_proj`, c.hiddenSize, c.intermediateSize),
      linearLayer(`${path}.mlp.up_proj`, c.hiddenSize, c.intermediateSize),
      linearLayer(`${path}.mlp.down_proj`, c.intermediateSize, c.hiddenSize),
    ];
  });

const queryKeyNorms = (c: CohereConfig, path: string): NamedShape[] => [
  [`${path}.self_attn.q_norm.weight`, [c.heads, c.headDim]],
  [`${path}.self_attn.k_norm.weight`, [c.kvHeads, c.headDim]],
];

function tensors(c: CohereConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    ['model.embed_tokens.weight', table],
    ...(c.tied ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...eachLayer(c, (path): NamedShape[] => [
      [`${path}.input_layernorm.weight`, [c.hiddenSize]],
      ...(c.queryKeyNorm ? queryKeyNorms(c, path) : []),
    ]),
    ['model.norm.weight', [c.hiddenSize]],
  ]);
}

function norm(c: CohereConfig, path: string, x: Tensor, layers: Layers): Tensor {
  return layerNorm(x, layers.weight(`${path}.weight`), tf.zeros([c.hiddenSize]), c.normEpsilon);
}

/** Normalizes each head, with weights per head. x [rows, length, heads, headDim] */
function headNorm(c: CohereConfig, path: string, x: Tensor, layers: Layers): Tensor {
  const plain = layerNorm(x, tf.ones([c.headDim]), tf.zeros([c.headDim]), c.normEpsilon);
  return tf.mul(plain, layers.weight(`${path}.weight`));
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: CohereConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.self_attn`;
  const [rows, length] = x.shape as [number, number, number];
  const heads = (kind: 'q' | 'k' | 'v', count: number): Tensor => {
    const split = tf.reshape(layers.linear(`${path}.${kind}_proj`, x), [rows, length, count, c.headDim]);
    const scaled =
      c.queryKeyNorm && kind !== 'v' ? headNorm(c, `${path}.${kind}_norm`, split, layers) : split;
    return tf.transpose(scaled, [0, 2, 1, 3]); // [rows, count, length, headDim]
  };
  const attended = layers.attend({
    layer: index,
    query: turnHeads(separatePairs(heads('q', c.heads)), angles),
    key: turnHeads(separatePairs(heads('k', c.kvHeads)), angles),
    value: heads('v', c.kvHeads),
    scale: c.headDim ** -0.5,
    window: null,
  });
  return layers.linear(`${path}.o_proj`, mergeHeads(attended));
}

/** SwiGLU. */
function mlp(c: CohereConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(index)}.mlp`;
  const gate = c.activation(layers.linear(`${path}.gate_proj`, x));
  return layers.linear(`${path}.down_proj`, tf.mul(gate, layers.linear(`${path}.up_proj`, x)));
}

function block(c: CohereConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const normed = norm(c, `${layerPath(index)}.input_layernorm`, x, layers);
  const attended = tf.add(x, attention(c, index, normed, angles, layers));
  return tf.add(attended, mlp(c, index, normed, layers));
}

function hidden(c: CohereConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = rotaryAngles(positions, c.rope);
  let x: Tensor = embedTokens(layers.weight('model.embed_tokens.weight'), tokens, c.padId);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, angles, layers);
  return tf.mul(norm(c, 'model.norm', x, layers), c.logitScale);
}

export const cohere: Architecture<CohereConfig> = {
  name: 'cohere',
  kind: 'causal',
  serves: ['CohereForCausalLM'],
  readConfig,
  shape: c => c,
  tensors,
  canonicalName: (_, name) => (name.endsWith('.rotary_emb.inv_freq') ? null : name),
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight'),
};
