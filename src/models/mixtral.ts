// Mixtral: Llama's attention with mixture-of-experts MLPs; each expert computes exactly the tokens routed to it. The
// load-balancing loss of pre-training is not added. Adapters target attention only: transformers 5 stores the experts
// as stacked parameters, which are not linear layers.
import type { Tensor } from '@tensorflow/tfjs';
import {
  type Groups,
  groupProduct,
  groupRows,
  layApart,
  layTogether,
  pickLargest,
  rmsNorm,
} from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, readHeadCounts, readPositive } from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors, type NamedShape } from './linear-layers.ts';
import { ModelError } from './model-error.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface MixtralConfig {
  readonly vocabSize: number;
  readonly padId: number | null;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly tied: boolean;
  readonly window: number | null;
  readonly activation: Activation;
  readonly rope: Rope;
}

function readConfig(json: ConfigJson): MixtralConfig {
  const hiddenSize = readCount(json, 'hidden_size');
  const { heads, kvHeads } = readHeadCounts(json, 8);
  const headDim = readCount(json, 'head_dim', hiddenSize / heads);
  const experts = readCount(json, 'num_local_experts', 8);
  const expertsPerToken = readCount(json, 'num_experts_per_tok', 2);
  if (expertsPerToken > experts) {
    throw new ModelError(
      `config.json: num_experts_per_tok ${expertsPerToken} of num_local_experts ${experts}`,
    );
  }
  return {
    vocabSize: readCount(json, 'vocab_size'),
    padId: readPadId(json, null),
    hiddenSize,
    intermediateSize: readCount(json, 'intermediate_size'),
    layers: readCount(json, 'num_hidden_layers'),
    heads,
    kvHeads,
    headDim,
    experts,
    expertsPerToken,
    maxPositions: readCount(json, 'max_position_embeddings', 131_072),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-5),
    tied: readFlag(json, 'tie_word_embeddings', false),
    window: json.sliding_window == null ? null : readCount(json, 'sliding_window'),
    activation: readActivation(json, 'hidden_act', 'silu'),
    rope: readRope(json, headDim, { theta: 1_000_000 }),
  };
}

const layerPath = (index: number): string => `model.layers.${index}`;
const expertPath = (index: number, expert: number): string =>
  `${layerPath(index)}.block_sparse_moe.experts.${expert}`;

const eachLayer = <Made>(c: MixtralConfig, make: (index: number) => Made[]): Made[] =>
  Array.from({ length: c.layers }, (_, index) => make(index)).flat();

const linearLayers = (c: MixtralConfig): LinearLayer[] =>
  eachLayer(c, index => {
    const path = `${layerPath(index)}.self_attn`;
    const queries = c.heads * c.headDim;
    const keys = c.kvHeads * c.headDim;
    return [
      linearLayer(`${path}.q_proj`, c.hiddenSize, queries),
      linearLayer(`${path}.k_proj`, c.hiddenSize, keys),
      linearLayer(`${path}.v_proj`, c.hiddenSize, keys),
      linearLayer(`${path}.o_proj`, queries, c.hiddenSize),
    ];
  });

const expertTensors = (c: MixtralConfig, index: number): NamedShape[] => [
  [`${layerPath(index)}.block_sparse_moe.gate.weight`, [c.experts, c.hiddenSize]],
  ...Array.from({ length: c.experts }, (_, expert): NamedShape[] => [
    [`${expertPath(index, expert)}.w1.weight`, [c.intermediateSize, c.hiddenSize]],
    [`${expertPath(index, expert)}.w2.weight`, [c.hiddenSize, c.intermediateSize]],
    [`${expertPath(index, expert)}.w3.weight`, [c.intermediateSize, c.hiddenSize]],
  ]).flat(),
];

function tensors(c: MixtralConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    ['model.embed_tokens.weight', table],
    ...(c.tied ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...eachLayer(c, index => expertTensors(c, index)),
    ...eachLayer(c, index => [
      [`${layerPath(index)}.input_layernorm.weight`, [c.hiddenSize]],
      [`${layerPath(index)}.post_attention_layernorm.weight`, [c.hiddenSize]],
    ]),
    ['model.norm.weight', [c.hiddenSize]],
  ]);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: MixtralConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.self_attn`;
  const heads = (kind: 'q' | 'k' | 'v', count: number): Tensor =>
    splitHeads(layers.linear(`${path}.${kind}_proj`, x), count);
  const attended = layers.attend({
    layer: index,
    query: turnHeads(heads('q', c.heads), angles),
    key: turnHeads(heads('k', c.kvHeads), angles),
    value: heads('v', c.kvHeads),
    scale: c.headDim ** -0.5,
    window: c.window,
  });
  return layers.linear(`${path}.o_proj`, mergeHeads(attended));
}

/**
 * x [tokens, hidden] -> the top experts of every token, and their weights [tokens, expertsPerToken], which sum to 1.
 */
function route(
  c: MixtralConfig,
  index: number,
  x: Tensor,
  layers: Layers,
): { groups: Groups; shares: Tensor } {
  const gate = layers.weight(`${layerPath(index)}.block_sparse_moe.gate.weight`);
  const probabilities: Tensor = tf.softmax(tf.matMul(x as never, gate as never, false, true));
  const picks = pickLargest(probabilities, c.expertsPerToken);
  const chosen = tf.sum(tf.mul(tf.expandDims(probabilities, 1), picks), 2);
  return { groups: groupRows(picks), shares: tf.div(chosen, tf.sum(chosen, 1, true)) };
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function mixture(c: MixtralConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const flat = tf.reshape(x, [-1, c.hiddenSize]);
  const { groups, shares } = route(c, index, flat, layers);
  const product = (rows: Tensor, name: string): Tensor => {
    const matrices = Array.from({ length: c.experts }, (_, expert) =>
      layers.weight(`${expertPath(index, expert)}.${name}.weight`),
    );
    return groupProduct(rows, groups.sizes, matrices);
  };
  const laid = layTogether(flat, groups);
  const inner = tf.mul(c.activation(product(laid, 'w1')), product(laid, 'w3'));
  const parts = layApart(product(inner, 'w2'), groups); // [tokens, expertsPerToken, hidden]
  return tf.reshape(tf.sum(tf.mul(parts, tf.expandDims(shares, 2)), 1), x.shape);
}

function block(c: MixtralConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const norm = (input: Tensor, name: string): Tensor =>
    rmsNorm(input, layers.weight(`${layerPath(index)}.${name}.weight`), c.normEpsilon);
  const attended = tf.add(x, attention(c, index, norm(x, 'input_layernorm'), angles, layers));
  return tf.add(attended, mixture(c, index, norm(attended, 'post_attention_layernorm'), layers));
}

function hidden(c: MixtralConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = rotaryAngles(positions, c.rope);
  let x: Tensor = embedTokens(layers.weight('model.embed_tokens.weight'), tokens, c.padId);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, angles, layers);
  return rmsNorm(x, layers.weight('model.norm.weight'), c.normEpsilon);
}

export const mixtral: Architecture<MixtralConfig> = {
  name: 'mixtral',
  kind: 'causal',
  serves: ['MixtralForCausalLM'],
  readConfig,
  shape: c => c,
  tensors,
  canonicalName: (_, name) => name,
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight'),
};
