// DistilBERT: BERT without token types, with different tensor names. Pre-training heads and dropout are not applied.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import { type ConfigJson, readCount, readWidthAndHeads } from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors, normTensors } from './linear-layers.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface DistilbertConfig {
  /** Prefix of the encoder's tensor names; empty in a file of the encoder alone. */
  readonly prefix: string;
  readonly vocabSize: number;
  readonly padId: number | null;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly maxPositions: number;
  readonly activation: Activation;
}

const PREFIX = 'distilbert.';
const HEADS = /^(vocab_transform|vocab_layer_norm|vocab_projector|pre_classifier|classifier|qa_outputs)\./;
/** Fixed in transformers' code. */
const NORM_EPSILON = 1e-12;

function readConfig(json: ConfigJson, served: string): DistilbertConfig {
  const [hiddenSize, heads] = readWidthAndHeads(json, ['dim', 768], ['n_heads', 12]);
  return {
    prefix: served === 'DistilBertModel' ? '' : PREFIX,
    vocabSize: readCount(json, 'vocab_size'),
    padId: readPadId(json, 0),
    hiddenSize,
    innerSize: readCount(json, 'hidden_dim', 3072),
    layers: readCount(json, 'n_layers', 6),
    heads,
    maxPositions: readCount(json, 'max_position_embeddings', 512),
    activation: readActivation(json, 'activation', 'gelu'),
  };
}

const layerPath = (c: DistilbertConfig, index: number): string => `${c.prefix}transformer.layer.${index}`;

const linearLayers = (c: DistilbertConfig): LinearLayer[] =>
  Array.from({ length: c.layers }, (_, index) => {
    const path = layerPath(c, index);
    const projections = ['q_lin', 'k_lin', 'v_lin', 'out_lin'].map(name =>
      linearLayer(`${path}.attention.${name}`, c.hiddenSize, c.hiddenSize, true),
    );
    return [
      ...projections,
      linearLayer(`${path}.ffn.lin1`, c.hiddenSize, c.innerSize, true),
      linearLayer(`${path}.ffn.lin2`, c.innerSize, c.hiddenSize, true),
    ];
  }).flat();

function normPaths(c: DistilbertConfig): string[] {
  const perLayer = Array.from({ length: c.layers }, (_, index) => [
    `${layerPath(c, index)}.sa_layer_norm`,
    `${layerPath(c, index)}.output_layer_norm`,
  ]);
  return [`${c.prefix}embeddings.LayerNorm`, ...perLayer.flat()];
}

function tensors(c: DistilbertConfig): Record<string, readonly number[]> {
  return Object.fromEntries([
    [`${c.prefix}embeddings.word_embeddings.weight`, [c.vocabSize, c.hiddenSize]],
    [`${c.prefix}embeddings.position_embeddings.weight`, [c.maxPositions, c.hiddenSize]],
    ...linearTensors(linearLayers(c)),
    ...normPaths(c).flatMap(path => normTensors(path, c.hiddenSize)),
  ]);
}

/** Files have the encoder with or without its prefix. */
function canonicalName(c: DistilbertConfig, name: string): string | null {
  const bare = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name;
  if (bare === 'embeddings.position_ids') return null;
  return /^(embeddings|transformer)\./.test(bare) ? c.prefix + bare : name;
}

function norm(path: string, x: Tensor, layers: Layers): Tensor {
  return layerNorm(x, layers.weight(`${path}.weight`), layers.weight(`${path}.bias`), NORM_EPSILON);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: DistilbertConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(c, index)}.attention`;
  const heads = (name: string): Tensor => splitHeads(layers.linear(`${path}.${name}`, x), c.heads);
  const attended = layers.attend({
    layer: index,
    query: heads('q_lin'),
    key: heads('k_lin'),
    value: heads('v_lin'),
    scale: (c.hiddenSize / c.heads) ** -0.5,
    window: null,
    bothWays: true,
  });
  return layers.linear(`${path}.out_lin`, mergeHeads(attended));
}

function block(c: DistilbertConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = layerPath(c, index);
  const attended = norm(`${path}.sa_layer_norm`, tf.add(x, attention(c, index, x, layers)), layers);
  const inner = c.activation(layers.linear(`${path}.ffn.lin1`, attended));
  const fed = tf.add(attended, layers.linear(`${path}.ffn.lin2`, inner));
  return norm(`${path}.output_layer_norm`, fed, layers);
}

function hidden(c: DistilbertConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const path = `${c.prefix}embeddings`;
  const embedded: Tensor = tf.add(
    embedTokens(layers.weight(`${path}.word_embeddings.weight`), tokens, c.padId),
    tf.gather(layers.weight(`${path}.position_embeddings.weight`), positions),
  );
  let x = norm(`${path}.LayerNorm`, embedded, layers);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, layers);
  return x;
}

export const distilbert: Architecture<DistilbertConfig> = {
  name: 'distilbert',
  kind: 'encoder',
  serves: [
    'DistilBertModel',
    'DistilBertForMaskedLM',
    'DistilBertForSequenceClassification',
    'DistilBertForTokenClassification',
    'DistilBertForQuestionAnswering',
    'DistilBertForMultipleChoice',
  ],
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
  isHead: (_, name) => HEADS.test(name),
  linearLayers,
  hidden,
  outputWeight: () => null,
};
