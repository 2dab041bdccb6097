// Gemma 2 and the text models of Gemma 3: norms before and after attention and MLP that scale by 1 + weight, GeGLU,
// sliding windows on most layers, softcaps (2), or query-key norms and rotary positions per kind of layer (3). Images
// (Gemma3ForConditionalGeneration) are not supported.
import type { Tensor } from '@tensorflow/tfjs';
import { rmsNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import {
  type ConfigJson,
  readCount,
  readFlag,
  readHeadCounts,
  readObject,
  readPositive,
  refuse,
} from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { type LayerKind, readLayerKinds } from './layer-kinds.ts';
import { linearLayer, linearTensors, type NamedShape } from './linear-layers.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface GemmaConfig {
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
  readonly bias: boolean;
  readonly activation: Activation;
  /** Scale of the attention scores. */
  readonly scale: number;
  readonly queryKeyNorm: boolean;
  readonly attentionSoftcap: number | null;
  readonly logitSoftcap: number | null;
  /** One entry per layer. */
  readonly kinds: readonly LayerKind[];
  readonly window: number;
  readonly ropes: Readonly<Record<LayerKind, Rope>>;
}

/** Differences between the generations, with transformers' field names and defaults. */
interface Generation {
  readonly queryKeyNorm: boolean;
  readonly maxPositions: number;
  /** Every how many layers there is one with full attention. */
  pattern(json: ConfigJson): number;
  attentionSoftcap(json: ConfigJson): number | null;
  logitSoftcap(json: ConfigJson): number | null;
  ropes(json: ConfigJson, headDim: number): GemmaConfig['ropes'];
}

/** null switches it off; absent means the default. */
const readSoftcap = (json: ConfigJson, name: string, fallback: number | null): number | null =>
  (json[name] === undefined ? fallback : json[name]) === null
    ? null
    : readPositive(json, name, fallback ?? undefined);

const GENERATIONS = {
  Gemma2ForCausalLM: {
    queryKeyNorm: false,
    maxPositions: 8192,
    pattern: () => 2,
    attentionSoftcap: json => readSoftcap(json, 'attn_logit_softcapping', 50),
    logitSoftcap: json => readSoftcap(json, 'final_logit_softcapping', 30),
    ropes(json, headDim) {
      const rope = readRope(json, headDim);
      return { sliding_attention: rope, full_attention: rope };
    },
  },
  Gemma3ForCausalLM: {
    queryKeyNorm: true,
    maxPositions: 131_072,
    pattern: json => readCount(json, 'sliding_window_pattern', 6),
    attentionSoftcap(json) {
      // transformers reads the field but never applies it.
      refuse(json, 'attn_logit_softcapping', null);
      return null;
    },
    logitSoftcap: json => readSoftcap(json, 'final_logit_softcapping', null),
    ropes: (json, headDim) => ({
      sliding_attention: readRope(ropeOfKind(json, 'sliding_attention'), headDim),
      full_attention: readRope(ropeOfKind(json, 'full_attention'), headDim, { theta: 1_000_000 }),
    }),
  },
} satisfies Record<string, Generation>;

/**
 * A config with the rotary fields of one layer kind only, from either spelling: nested by kind (transformers 5), or
 * separate fields.
 */
function ropeOfKind(json: ConfigJson, kind: LayerKind): ConfigJson {
  const { rope_theta, rope_scaling, rope_parameters, rope_local_base_freq, ...rest } = json;
  const byKind = readObject(json, 'rope_parameters');
  if (byKind) return { ...rest, rope_parameters: byKind[kind] };
  return kind === 'full_attention'
    ? { ...rest, rope_theta, rope_scaling }
    : { ...rest, rope_theta: rope_local_base_freq };
}

function readConfig(json: ConfigJson, served: string): GemmaConfig {
  const generation: Generation = GENERATIONS[served as keyof typeof GENERATIONS];
  refuse(json, 'use_bidirectional_attention', false);
  const { heads, kvHeads } = readHeadCounts(json);
  const pattern = generation.pattern(json);
  const headDim = readCount(json, 'head_dim', 256);
  return {
    vocabSize: readCount(json, 'vocab_size'),
    padId: readPadId(json, 0),
    hiddenSize: readCount(json, 'hidden_size'),
    intermediateSize: readCount(json, 'intermediate_size'),
    heads,
    kvHeads,
    headDim,
    maxPositions: readCount(json, 'max_position_embeddings', generation.maxPositions),
    normEpsilon: readPositive(json, 'rms_norm_eps', 1e-6),
    tied: readFlag(json, 'tie_word_embeddings', true),
    bias: readFlag(json, 'attention_bias', false),
    activation: readActivation(json, 'hidden_activation', 'gelu_pytorch_tanh'),
    scale: readPositive(json, 'query_pre_attn_scalar', 256) ** -0.5,
    queryKeyNorm: generation.queryKeyNorm,
    attentionSoftcap: generation.attentionSoftcap(json),
    logitSoftcap: generation.logitSoftcap(json),
    kinds: readLayerKinds(json, index => (index + 1) % pattern === 0),
    window: readCount(json, 'sliding_window', 4096),
    ropes: generation.ropes(json, headDim),
  };
}

const layerPath = (index: number): string => `model.layers.${index}`;

function layerLinears(c: GemmaConfig, index: number): LinearLayer[] {
  const path = layerPath(index);
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
}

const linearLayers = (c: GemmaConfig): LinearLayer[] => c.kinds.flatMap((_, index) => layerLinears(c, index));

const NORMS = [
  'input_layernorm',
  'post_attention_layernorm',
  'pre_feedforward_layernorm',
  'post_feedforward_layernorm',
] as const;
type NormName = (typeof NORMS)[number];

const layerNorms = (c: GemmaConfig, index: number): NamedShape[] => [
  ...NORMS.map((name): NamedShape => [`${layerPath(index)}.${name}.weight`, [c.hiddenSize]]),
  ...(c.queryKeyNorm ? ['q_norm', 'k_norm'] : []).map(
    (name): NamedShape => [`${layerPath(index)}.self_attn.${name}.weight`, [c.headDim]],
  ),
];

function tensors(c: GemmaConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    ['model.embed_tokens.weight', table],
    ...(c.tied ? [] : [['lm_head.weight', table]]),
    ...linearTensors(linearLayers(c)),
    ...c.kinds.flatMap((_, index) => layerNorms(c, index)),
    ['model.norm.weight', [c.hiddenSize]],
  ]);
}

/** The stored weights are offsets from 1. */
const norm = (c: GemmaConfig, path: string, x: Tensor, layers: Layers): Tensor =>
  rmsNorm(x, tf.add(layers.weight(`${path}.weight`), 1), c.normEpsilon);

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: GemmaConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(index)}.self_attn`;
  const heads = (kind: 'q' | 'k' | 'v', count: number): Tensor =>
    splitHeads(layers.linear(`${path}.${kind}_proj`, x), count);
  const turned = (kind: 'q' | 'k', count: number): Tensor => {
    const plain = heads(kind, count);
    return turnHeads(c.queryKeyNorm ? norm(c, `${path}.${kind}_norm`, plain, layers) : plain, angles);
  };
  const attended = layers.attend({
    layer: index,
    query: turned('q', c.heads),
    key: turned('k', c.kvHeads),
    value: heads('v', c.kvHeads),
    scale: c.scale,
    window: c.kinds[index] === 'sliding_attention' ? c.window : null,
    softcap: c.attentionSoftcap,
  });
  return layers.linear(`${path}.o_proj`, mergeHeads(attended));
}

/** GeGLU. */
function mlp(c: GemmaConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(index)}.mlp`;
  const gate = c.activation(layers.linear(`${path}.gate_proj`, x));
  return layers.linear(`${path}.down_proj`, tf.mul(gate, layers.linear(`${path}.up_proj`, x)));
}

function block(c: GemmaConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const normed = (input: Tensor, name: NormName): Tensor =>
    norm(c, `${layerPath(index)}.${name}`, input, layers);
  const attended = attention(c, index, normed(x, 'input_layernorm'), angles, layers);
  const between = tf.add(x, normed(attended, 'post_attention_layernorm'));
  const fed = mlp(c, index, normed(between, 'pre_feedforward_layernorm'), layers);
  return tf.add(between, normed(fed, 'post_feedforward_layernorm'));
}

function hidden(c: GemmaConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = {
    sliding_attention: rotaryAngles(positions, c.ropes.sliding_attention),
    full_attention: rotaryAngles(positions, c.ropes.full_attention),
  };
  const embedded: Tensor = tf.mul(
    embedTokens(layers.weight('model.embed_tokens.weight'), tokens, c.padId),
    c.hiddenSize ** 0.5,
  );
  const last = c.kinds.reduce((x, kind, index) => block(c, index, x, angles[kind], layers), embedded);
  return norm(c, 'model.norm', last, layers);
}

export const gemma: Architecture<GemmaConfig> = {
  name: 'gemma',
  kind: 'causal',
  serves: Object.keys(GENERATIONS),
  readConfig,
  shape: c => ({
    layers: c.kinds.length,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.kvHeads,
    headDim: c.headDim,
    vocabSize: c.vocabSize,
    maxPositions: c.maxPositions,
  }),
  tensors,
  canonicalName: (_, name) => name,
  linearLayers,
  hidden,
  outputWeight: c => (c.tied ? 'model.embed_tokens.weight' : 'lm_head.weight'),
  logitSoftcap: c => c.logitSoftcap,
};
