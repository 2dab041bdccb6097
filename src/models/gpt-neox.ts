// GPT-NeoX (Pythia): fused query-key-value projections, rotary positions on part of every head, attention and MLP in
// parallel or in sequence. The config's dropout is not applied; adapters have their own.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, readPositive, readWidthAndHeads } from './config-fields.ts';
import { mergeHeads, splitGroups } from './heads.ts';
import { linearLayer, linearTensors, normTensors } from './linear-layers.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';

interface NeoxConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly tied: boolean;
  readonly attentionBias: boolean;
  /** Attention and MLP read the same input; otherwise the MLP reads attention's output. */
  readonly parallel: boolean;
  readonly activation: Activation;
  readonly rope: Rope;
}

function readConfig(json: ConfigJson): NeoxConfig {
  const [hiddenSize, heads] = readWidthAndHeads(json, ['hidden_size'], ['num_attention_heads']);
  const spelt = {
    ...json,
    rope_theta: json.rope_theta ?? json.rotary_emb_base,
    partial_rotary_factor: json.partial_rotary_factor ?? json.rotary_pct,
  };
  return {
    vocabSize: readCount(json, 'vocab_size'),
    hiddenSize,
    innerSize: readCount(json, 'intermediate_size'),
    layers: readCount(json, 'num_hidden_layers'),
    heads,
    maxPositions: readCount(json, 'max_position_embeddings', 2048),
    normEpsilon: readPositive(json, 'layer_norm_eps', 1e-5),
    tied: readFlag(json, 'tie_word_embeddings', false),
    attentionBias: readFlag(json, 'attention_bias', true),
    parallel: readFlag(json, 'use_parallel_residual', true),
    activation: readActivation(json, 'hidden_act', 'gelu'),
    rope: readRope(spelt, hiddenSize / heads, { partial: 0.25 }),
  };
}

const EMBEDDING = 'gpt_neox.embed_in.weight';
const HEAD = 'embed_out.weight';

const layerPath = (index: number): string => `gpt_neox.layers.${index}`;

const linearLayers = (c: NeoxConfig): LinearLayer[] =>
  Array.from({ length: c.layers }, (_, index) => {
    const path = layerPath(index);
    return [
      linearLayer(`${path}.attention.query_key_value`, c.hiddenSize, 3 * c.hiddenSize, c.attentionBias),
      linearLayer(`${path}.attention.dense`, c.hiddenSize, c.hiddenSize, c.attentionBias),
      linearLayer(`${path}.mlp.dense_h_to_4h`, c.hiddenSize, c.innerSize, true),
      linearLayer(`${path}.mlp.dense_4h_to_h`, c.innerSize, c.hiddenSize, true),
    ];
  }).flat();

function normPaths(c: NeoxConfig): string[] {
  const perLayer = Array.from({ length: c.layers }, (_, index) => [
    `${layerPath(index)}.input_layernorm`,
    `${layerPath(index)}.post_attention_layernorm`,
  ]);
  return [...perLayer.flat(), 'gpt_neox.final_layer_norm'];
}

function tensors(c: NeoxConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    [EMBEDDING, table],
    ...(c.tied ? [] : [[HEAD, table]]),
    ...linearTensors(linearLayers(c)),
    ...normPaths(c).flatMap(path => normTensors(path, c.hiddenSize)),
  ]);
}

/** Files of 2023 carry the causal mask and the rotary frequencies as buffers. */
function canonicalName(c: NeoxConfig, name: string): string | null {
  if (/\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/.test(name)) return null;
  if (name !== HEAD && name !== 'lm_head.weight') return name;
  return c.tied ? 'lm_head.weight' : HEAD;
}

function norm(c: NeoxConfig, path: string, x: Tensor, layers: Layers): Tensor {
  return layerNorm(x, layers.weight(`${path}.weight`), layers.weight(`${path}.bias`), c.normEpsilon);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: NeoxConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.attention`;
  const { query, key, value } = splitGroups(layers.linear(`${path}.query_key_value`, x), c.heads, c.heads);
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

function block(c: NeoxConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = layerPath(index);
  const mlp = (input: Tensor): Tensor => {
    const inner = layers.linear(
      `${path}.mlp.dense_h_to_4h`,
      norm(c, `${path}.post_attention_layernorm`, input, layers),
    );
    return layers.linear(`${path}.mlp.dense_4h_to_h`, c.activation(inner));
  };
  const attended = tf.add(
    x,
    attention(c, index, norm(c, `${path}.input_layernorm`, x, layers), angles, layers),
  );
  return tf.add(attended, mlp(c.parallel ? x : attended));
}

function hidden(c: NeoxConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = rotaryAngles(positions, c.rope);
  let x: Tensor = tf.gather(layers.weight(EMBEDDING), tokens);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, angles, layers);
  return norm(c, 'gpt_neox.final_layer_norm', x, layers);
}

export const gptNeox: Architecture<NeoxConfig> = {
  name: 'gpt-neox',
  kind: 'causal',
  serves: ['GPTNeoXForCausalLM'],
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
  outputWeight: c => (c.tied ? EMBEDDING : HEAD),
};
