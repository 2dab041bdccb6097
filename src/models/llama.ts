// The Llama family: Llama 2 and 3, Mistral, Qwen2 and Qwen3. They differ in biases, head size, query-key norms and
// sliding windows, all of it config; they share one forward pass.
import type { Tensor } from '@tensorflow/tfjs';
import { rmsNorm, silu } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import {
  type ConfigJson,
  readChoice,
  readCount,
  readFlag,
  readHeadCounts,
  readPositive,
} from './config-fields.ts';
import { mergeHeads } from './heads.ts';
import { linearLayer, linearTensors, type NamedShape } from './linear-layers.ts';
import { ModelError } from './model-error.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface LlamaConfig {
  readonly vocabSize: number;
  readonly padId: number | null;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly tied: boolean;
  readonly rope: Rope;
  readonly queryKeyNorm: boolean;
  readonly bias: { readonly queryKeyValue: boolean; readonly output: boolean; readonly mlp: boolean };
  /** Sliding window per layer: how many positions back it sees; null: all. */
  readonly windows: readonly (number | null)[];
}

/** Differences between the members of the family, with transformers' field names and defaults. */
interface Variant {
  bias(json: ConfigJson): LlamaConfig['bias'];
  windows(json: ConfigJson, layers: number): (number | null)[];
  readonly queryKeyNorm: boolean;
  /** null: hidden size over heads. */
  readonly headDim: number | null;
  readonly maxPositions: number;
}

const NO_BIAS = { queryKeyValue: false, output: false, mlp: false };

const VARIANTS = {
  LlamaForCausalLM: {
    bias: json => {
      const attention = readFlag(json, 'attention_bias', false);
      return { queryKeyValue: attention, output: attention, mlp: readFlag(json, 'mlp_bias', false) };
    },
    windows: (_, layers) => Array(layers).fill(null),
    queryKeyNorm: false,
    headDim: null,
    maxPositions: 2048,
  },
  MistralForCausalLM: {
    bias: () => NO_BIAS,
    windows: (json, layers) => Array(layers).fill(mistralWindow(json)),
    queryKeyNorm: false,
    headDim: null,
    maxPositions: 131_072,
  },
  Qwen2ForCausalLM: {
    bias: () => ({ ...NO_BIAS, queryKeyValue: true }),
    windows: qwenWindows,
    queryKeyNorm: false,
    headDim: null,
    maxPositions: 32_768,
  },
  Qwen3ForCausalLM: {
    bias: json => {
      const attention = readFlag(json, 'attention_bias', false);
      return { queryKeyValue: attention, output: attention, mlp: false };
    },
    windows: qwenWindows,
    queryKeyNorm: true,
    headDim: 128,
    maxPositions: 32_768,
  },
} satisfies Record<string, Variant>;

/** null switches it off; absent means transformers' default, 4096. */
function mistralWindow(json: ConfigJson): number | null {
  return json.sliding_window === null ? null : readCount(json, 'sliding_window', 4096);
}

/** Off unless `use_sliding_window`; then `layer_types` says for which layers, or all from `max_window_layers` on. */
function qwenWindows(json: ConfigJson, layers: number): (number | null)[] {
  if (!readFlag(json, 'use_sliding_window', false)) return Array(layers).fill(null);
  const window = mistralWindow(json);
  const types = json.layer_types ?? defaultLayerTypes(json, layers);
  if (!Array.isArray(types) || types.length !== layers) {
    throw new ModelError(`config.json: layer_types must have ${layers} entries`);
  }
  return types.map(type => (type === 'sliding_attention' ? window : null));
}

function defaultLayerTypes(json: ConfigJson, layers: number): string[] {
  const first = json.max_window_layers === 0 ? 0 : readCount(json, 'max_window_layers', 28);
  return Array.from({ length: layers }, (_, i) => (i >= first ? 'sliding_attention' : 'full_attention'));
}

function readConfig(json: ConfigJson, served: string): LlamaConfig {
  const variant: Variant = VARIANTS[served as keyof typeof VARIANTS];
  readChoice(json, 'hidden_act', ['silu', 'swish'], 'silu');
  const hiddenSize = readCount(json, 'hidden_size');
  const { heads, kvHeads } = readHeadCounts(json);
  const headDim = readCount(json, 'head_dim', variant.headDim ?? hiddenSize / heads);
  if (headDim % 2 !== 0) throw new ModelError(`config.json: head_dim ${headDim} is odd`);
  return {
    vocabSize: readCount(json, 'vocab_size'),
    padId: readPadId(json, null),
    hiddenSize,
    intermediateSize: readCount(json, 'intermediate_size'),
    heads,
    kvHeads,
    headDim,
    maxPositions: readCount(json, 'max_position_embeddings', variant.maxPositions),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
    tied: readFlag(json, 'tie_word_embeddings', false),
    rope: readRope(json, headDim),
    queryKeyNorm: variant.queryKeyNorm,
    bias: variant.bias(json),
    windows: variant.windows(json, readCount(json, 'num_hidden_layers')),
  };
}

const layerPath = (index: number): string => `model.layers.${index}`;

function layerLinears(c: LlamaConfig, index: number): LinearLayer[] {
  const queries = c.heads * c.headDim;
  const keys = c.kvHeads * c.headDim;
  const linear = (path: string, inFeatures: number, outFeatures: number, bias: boolean): LinearLayer =>
    linearLayer(`${layerPath(index)}.${path}`, inFeatures, outFeatures, bias);
  return [
    linear('self_attn.q_proj', c.hiddenSize, queries, c.bias.queryKeyValue),
    linear('self_attn.k_proj', c.hiddenSize, keys, c.bias.queryKeyValue),
    linear('self_attn.v_proj', c.hiddenSize, keys, c.bias.queryKeyValue),
    linear('self_attn.o_proj', queries, c.hiddenSize, c.bias.output),
    linear('mlp.gate_proj', c.hiddenSize, c.intermediateSize, c.bias.mlp),
    linear('mlp.up_proj', c.hiddenSize, c.intermediateSize, c.bias.mlp),
    linear('mlp.down_proj', c.intermediateSize, c.hiddenSize, c.bias.mlp),
  ];
}

const linearLayers = (c: LlamaConfig): LinearLayer[] =>
  c.windows.flatMap((_, index) => layerLinears(c, index));

function norms(c: LlamaConfig): NamedShape[] {
  const perLayer = c.windows.flatMap((_, index): NamedShape[] => [
    [`${layerPath(index)}.input_layernorm.weight`, [c.hiddenSize]],
    [`${layerPath(index)}.post_attention_layernorm.weight`, [c.hiddenSize]],
    ...(c.queryKeyNorm ? queryKeyNorms(c, index) : []),
  ]);
  return [...perLayer, ['model.norm.weight', [c.hiddenSize]]];
}

const queryKeyNorms = (c: LlamaConfig, index: number): NamedShape[] => [
  [`${layerPath(index)}.self_attn.q_norm.weight`, [c.headDim]],
  [`${layerPath(index)}.self_attn.k_norm.weight`, [c.headDim]],
];

function tensors(c: LlamaConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    ['model.embed_tokens.weight', table],
    ...(c.tied ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...norms(c),
  ]);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: LlamaConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.self_attn`;
  const [rows, length] = x.shape as [number, number, number];
  const project = (kind: 'q' | 'k' | 'v', count: number, normed: boolean): Tensor => {
    const split = tf.reshape(layers.linear(`${path}.${kind}_proj`, x), [rows, length, count, c.headDim]);
    const scaled = normed
      ? rmsNorm(split, layers.weight(`${path}.${kind}_norm.weight`), c.normEpsilon)
      : split;
    return tf.transpose(scaled, [0, 2, 1, 3]); // [rows, count, length, headDim]
  };
  const attended = layers.attend({
    layer: index,
    query: turnHeads(project('q', c.heads, c.queryKeyNorm), angles),
    key: turnHeads(project('k', c.kvHeads, c.queryKeyNorm), angles),
    value: project('v', c.kvHeads, false),
    scale: c.headDim ** -0.5,
    window: c.windows[index]!,
  });
  return layers.linear(`${path}.o_proj`, mergeHeads(attended));
}

/** SwiGLU. */
function mlp(index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(index)}.mlp`;
  const gate = silu(layers.linear(`${path}.gate_proj`, x));
  return layers.linear(`${path}.down_proj`, tf.mul(gate, layers.linear(`${path}.up_proj`, x)));
}

function block(c: LlamaConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const norm = (input: Tensor, name: string): Tensor =>
    rmsNorm(input, layers.weight(`${layerPath(index)}.${name}.weight`), c.normEpsilon);
  const attended = tf.add(x, attention(c, index, norm(x, 'input_layernorm'), angles, layers));
  return tf.add(attended, mlp(index, norm(attended, 'post_attention_layernorm'), layers));
}

function hidden(c: LlamaConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = rotaryAngles(positions, c.rope);
  const embedded: Tensor = embedTokens(layers.weight('model.embed_tokens.weight'), tokens, c.padId);
  const last = c.windows.reduce((x, _, index) => block(c, index, x, angles, layers), embedded);
  return rmsNorm(last, layers.weight('model.norm.weight'), c.normEpsilon);
}

export const llama: Architecture<LlamaConfig> = {
  name: 'llama',
  kind: 'causal',
  serves: Object.keys(VARIANTS),
  readConfig,
  shape: c => ({
    layers: c.windows.length,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.kvHeads,
    headDim: c.headDim,
    vocabSize: c.vocabSize,
    maxPositions: c.maxPositions,
  }),
  tensors,
  /** Files of 2023 carry the rotary frequencies as buffers. */
  canonicalName: (_, name) => (name.endsWith('.rotary_emb.inv_freq') ? null : name),
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight'),
};
