// ModernBERT (https://arxiv.org/abs/2412.13663): rotary positions, pre-norm, GeGLU, layers with full attention or a
// sliding window to both sides. Pre-training heads and dropout are not applied.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import {
  type ConfigJson,
  readCount,
  readFlag,
  readObject,
  readPositive,
  readWidthAndHeads,
} from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { type LayerKind, readLayerKinds } from './layer-kinds.ts';
import { linearLayer, linearTensors, type NamedShape } from './linear-layers.ts';
import { type Angles, type Rope, readRope, rotaryAngles, turnHeads } from './rope.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface ModernbertConfig {
  /** Prefix of the encoder's tensor names; empty in a file of the encoder alone. */
  readonly prefix: string;
  readonly vocabSize: number;
  readonly padId: number | null;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly heads: number;
  readonly maxPositions: number;
  readonly normEpsilon: number;
  readonly bias: { readonly norm: boolean; readonly attention: boolean; readonly mlp: boolean };
  readonly activation: Activation;
  /** One entry per layer. */
  readonly kinds: readonly LayerKind[];
  /** As defined by `Attention`. */
  readonly window: number;
  readonly ropes: Readonly<Record<LayerKind, Rope>>;
}

const PREFIX = 'model.';
const HEADS = /^(head|decoder|classifier|qa_outputs)\./;

/** Default rotary theta per layer kind, and transformers 4's names of the fields. */
const THETAS: Record<LayerKind, { field: string; theta: number }> = {
  full_attention: { field: 'global_rope_theta', theta: 160_000 },
  sliding_attention: { field: 'local_rope_theta', theta: 10_000 },
};

function readRopeOf(kind: LayerKind, json: ConfigJson, headDim: number): Rope {
  const { rope_parameters, rope_theta, ...rest } = json;
  const { field, theta } = THETAS[kind];
  const given = readObject(json, 'rope_parameters');
  const own = given ? { rope_parameters: given[kind] } : { rope_theta: json[field] };
  return readRope({ ...rest, ...own }, headDim, { theta });
}

function readConfig(json: ConfigJson, served: string): ModernbertConfig {
  const [hiddenSize, heads] = readWidthAndHeads(json, ['hidden_size', 768], ['num_attention_heads', 12]);
  const every = readCount(json, 'global_attn_every_n_layers', 3);
  const headDim = hiddenSize / heads;
  return {
    prefix: served === 'ModernBertModel' ? '' : PREFIX,
    vocabSize: readCount(json, 'vocab_size', 50_368),
    padId: readPadId(json, 50_283),
    hiddenSize,
    innerSize: readCount(json, 'intermediate_size', 1152),
    heads,
    maxPositions: readCount(json, 'max_position_embeddings', 8192),
    normEpsilon: readPositive(json, 'norm_eps', 1e-5),
    bias: {
      norm: readFlag(json, 'norm_bias', false),
      attention: readFlag(json, 'attention_bias', false),
      mlp: readFlag(json, 'mlp_bias', false),
    },
    activation: readActivation(json, 'hidden_activation', 'gelu'),
    kinds: readLayerKinds(json, index => index % every === 0),
    // The config gives the whole width: half to each side, plus the token itself.
    window: Math.floor(readCount(json, 'local_attention', 128) / 2) + 1,
    ropes: {
      full_attention: readRopeOf('full_attention', json, headDim),
      sliding_attention: readRopeOf('sliding_attention', json, headDim),
    },
  };
}

const layerPath = (c: ModernbertConfig, index: number): string => `${c.prefix}layers.${index}`;

const linearLayers = (c: ModernbertConfig): LinearLayer[] =>
  c.kinds.flatMap((_, index) => {
    const path = layerPath(c, index);
    return [
      linearLayer(`${path}.attn.Wqkv`, c.hiddenSize, 3 * c.hiddenSize, c.bias.attention),
      linearLayer(`${path}.attn.Wo`, c.hiddenSize, c.hiddenSize, c.bias.attention),
      linearLayer(`${path}.mlp.Wi`, c.hiddenSize, 2 * c.innerSize, c.bias.mlp),
      linearLayer(`${path}.mlp.Wo`, c.innerSize, c.hiddenSize, c.bias.mlp),
    ];
  });

/** The first layer has no norm before attention: the embeddings are normalized already. */
function normPaths(c: ModernbertConfig): string[] {
  const perLayer = c.kinds.map((_, index) => [
    ...(index === 0 ? [] : [`${layerPath(c, index)}.attn_norm`]),
    `${layerPath(c, index)}.mlp_norm`,
  ]);
  return [`${c.prefix}embeddings.norm`, ...perLayer.flat(), `${c.prefix}final_norm`];
}

function tensors(c: ModernbertConfig): Record<string, readonly number[]> {
  return Object.fromEntries([
    [`${c.prefix}embeddings.tok_embeddings.weight`, [c.vocabSize, c.hiddenSize]],
    ...linearTensors(linearLayers(c)),
    ...normPaths(c).flatMap((path): NamedShape[] => [
      [`${path}.weight`, [c.hiddenSize]],
      ...(c.bias.norm ? [[`${path}.bias`, [c.hiddenSize]] as const] : []),
    ]),
  ]);
}

/** Files have the encoder with or without its prefix. */
function canonicalName(c: ModernbertConfig, name: string): string {
  const bare = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name;
  return /^(embeddings|layers|final_norm)\./.test(bare) ? c.prefix + bare : name;
}

function norm(c: ModernbertConfig, path: string, x: Tensor, layers: Layers): Tensor {
  const bias = c.bias.norm ? layers.weight(`${path}.bias`) : tf.zeros([c.hiddenSize]);
  return layerNorm(x, layers.weight(`${path}.weight`), bias, c.normEpsilon);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: ModernbertConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = `${layerPath(c, index)}.attn`;
  const [query, key, value] = tf
    .split(layers.linear(`${path}.Wqkv`, x), 3, -1)
    .map(part => splitHeads(part, c.heads)) as [Tensor, Tensor, Tensor];
  const attended = layers.attend({
    layer: index,
    query: turnHeads(query, angles),
    key: turnHeads(key, angles),
    value,
    scale: (c.hiddenSize / c.heads) ** -0.5,
    window: c.kinds[index] === 'sliding_attention' ? c.window : null,
    bothWays: true,
  });
  return layers.linear(`${path}.Wo`, mergeHeads(attended));
}

/** GeGLU. */
function mlp(c: ModernbertConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(c, index)}.mlp`;
  const [gate, up] = tf.split(layers.linear(`${path}.Wi`, x), 2, -1) as [Tensor, Tensor];
  return layers.linear(`${path}.Wo`, tf.mul(c.activation(gate), up));
}

function block(c: ModernbertConfig, index: number, x: Tensor, angles: Angles, layers: Layers): Tensor {
  const path = layerPath(c, index);
  const asked = index === 0 ? x : norm(c, `${path}.attn_norm`, x, layers);
  const attended = tf.add(x, attention(c, index, asked, angles, layers));
  return tf.add(attended, mlp(c, index, norm(c, `${path}.mlp_norm`, attended, layers), layers));
}

function hidden(c: ModernbertConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const angles = {
    full_attention: rotaryAngles(positions, c.ropes.full_attention),
    sliding_attention: rotaryAngles(positions, c.ropes.sliding_attention),
  };
  const path = `${c.prefix}embeddings`;
  const table = layers.weight(`${path}.tok_embeddings.weight`);
  const embedded = norm(c, `${path}.norm`, embedTokens(table, tokens, c.padId), layers);
  const last = c.kinds.reduce((x, kind, index) => block(c, index, x, angles[kind], layers), embedded);
  return norm(c, `${c.prefix}final_norm`, last, layers);
}

export const modernbert: Architecture<ModernbertConfig> = {
  name: 'modernbert',
  kind: 'encoder',
  serves: [
    'ModernBertModel',
    'ModernBertForMaskedLM',
    'ModernBertForSequenceClassification',
    'ModernBertForTokenClassification',
    'ModernBertForQuestionAnswering',
    'ModernBertForMultipleChoice',
  ],
  readConfig,
  shape: c => ({
    layers: c.kinds.length,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.heads,
    headDim: c.hiddenSize / c.heads,
    vocabSize: c.vocabSize,
    maxPositions: c.maxPositions,
  }),
  tensors,
  canonicalName,
  isHead: (_, name) => HEADS.test(name),
  linearLayers,
  hidden,
  outputWeight: () => null,
};
