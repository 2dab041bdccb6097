// BERT, RoBERTa and XLM-RoBERTa: learned positions (RoBERTa's with an offset), a norm after each half of a layer. All
// tokens have token type 0: texts are single, not pairs. Pre-training heads and dropout are not applied.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Architecture, Layers, LinearLayer } from './architecture.ts';
import {
  type ConfigJson,
  readChoice,
  readCount,
  readPositive,
  readWidthAndHeads,
  refuse,
} from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors, type NamedShape, normTensors } from './linear-layers.ts';
import { embedTokens, readPadId } from './token-embedding.ts';

interface BertConfig {
  /** Prefix of the encoder's tensor names; empty in a file of the encoder alone. */
  readonly prefix: string;
  readonly family: Family;
  readonly vocabSize: number;
  readonly padId: number | null;
  readonly tokenTypes: number;
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Rows of the position table. */
  readonly positionRows: number;
  /** The row of a text's first token. */
  readonly firstPosition: number;
  readonly normEpsilon: number;
  readonly activation: Activation;
}

/** Differences between the families. */
interface Family {
  readonly prefix: string;
  readonly heads: RegExp;
  /** Default when config.json has none. */
  readonly padId: number;
  firstPosition(padId: number | null): number;
}

const bertFamily: Family = {
  prefix: 'bert.',
  heads: /^(bert\.)?pooler\.|^(cls|classifier|qa_outputs)\./,
  padId: 0,
  firstPosition: () => 0,
};

const robertaFamily: Family = {
  prefix: 'roberta.',
  heads: /^(roberta\.)?pooler\.|^(lm_head|classifier|qa_outputs)\./,
  padId: 1,
  // The rows before it belong to padding (fairseq's numbering).
  firstPosition: padId => (padId ?? 0) + 1,
};

const FAMILIES = { Bert: bertFamily, Roberta: robertaFamily, XLMRoberta: robertaFamily };

/** The classes of transformers that differ only in their heads. */
const CLASSES: Record<keyof typeof FAMILIES, readonly string[]> = {
  Bert: ['Model', 'ForPreTraining', 'ForMaskedLM', 'ForNextSentencePrediction'],
  Roberta: ['Model', 'ForMaskedLM'],
  XLMRoberta: ['Model', 'ForMaskedLM'],
};
const TASKS = [
  'ForSequenceClassification',
  'ForTokenClassification',
  'ForQuestionAnswering',
  'ForMultipleChoice',
];

/** For each class: its family, and whether it is the encoder alone. */
const SERVED: Readonly<Record<string, { family: Family; bare: boolean }>> = Object.fromEntries(
  Object.entries(FAMILIES).flatMap(([name, family]) =>
    [...CLASSES[name as keyof typeof FAMILIES], ...TASKS].map(
      kind => [name + kind, { family, bare: kind === 'Model' }] as const,
    ),
  ),
);

function readConfig(json: ConfigJson, served: string): BertConfig {
  const { family, bare } = SERVED[served]!;
  readChoice(json, 'position_embedding_type', ['absolute'], 'absolute');
  refuse(json, 'is_decoder', false);
  refuse(json, 'add_cross_attention', false);
  const [hiddenSize, heads] = readWidthAndHeads(json, ['hidden_size', 768], ['num_attention_heads', 12]);
  const padId = readPadId(json, family.padId);
  return {
    prefix: bare ? '' : family.prefix,
    family,
    vocabSize: readCount(json, 'vocab_size'),
    padId,
    tokenTypes: readCount(json, 'type_vocab_size', 2),
    hiddenSize,
    innerSize: readCount(json, 'intermediate_size', 3072),
    layers: readCount(json, 'num_hidden_layers', 12),
    heads,
    positionRows: readCount(json, 'max_position_embeddings', 512),
    firstPosition: family.firstPosition(padId),
    normEpsilon: readPositive(json, 'layer_norm_eps', 1e-12),
    activation: readActivation(json, 'hidden_act', 'gelu'),
  };
}

const layerPath = (c: BertConfig, index: number): string => `${c.prefix}encoder.layer.${index}`;

const linearLayers = (c: BertConfig): LinearLayer[] =>
  Array.from({ length: c.layers }, (_, index) => {
    const path = layerPath(c, index);
    const square = (name: string): LinearLayer =>
      linearLayer(`${path}.${name}`, c.hiddenSize, c.hiddenSize, true);
    return [
      square('attention.self.query'),
      square('attention.self.key'),
      square('attention.self.value'),
      square('attention.output.dense'),
      linearLayer(`${path}.intermediate.dense`, c.hiddenSize, c.innerSize, true),
      linearLayer(`${path}.output.dense`, c.innerSize, c.hiddenSize, true),
    ];
  }).flat();

function normPaths(c: BertConfig): string[] {
  const perLayer = Array.from({ length: c.layers }, (_, index) => [
    `${layerPath(c, index)}.attention.output.LayerNorm`,
    `${layerPath(c, index)}.output.LayerNorm`,
  ]);
  return [`${c.prefix}embeddings.LayerNorm`, ...perLayer.flat()];
}

function tensors(c: BertConfig): Record<string, readonly number[]> {
  const table = (name: string, rows: number): NamedShape => [
    `${c.prefix}embeddings.${name}.weight`,
    [rows, c.hiddenSize],
  ];
  return Object.fromEntries([
    table('word_embeddings', c.vocabSize),
    table('position_embeddings', c.positionRows),
    table('token_type_embeddings', c.tokenTypes),
    ...linearTensors(linearLayers(c)),
    ...normPaths(c).flatMap(path => normTensors(path, c.hiddenSize)),
  ]);
}

/**
 * Files have the encoder with or without its prefix; old ones call a norm's parameters gamma and beta and contain
 * position ids.
 */
function canonicalName(c: BertConfig, name: string): string | null {
  const spelt = name.replace(/\.gamma$/, '.weight').replace(/\.beta$/, '.bias');
  const bare = spelt.startsWith(c.family.prefix) ? spelt.slice(c.family.prefix.length) : spelt;
  if (bare === 'embeddings.position_ids') return null;
  return /^(embeddings|encoder|pooler)\./.test(bare) ? c.prefix + bare : spelt;
}

function norm(c: BertConfig, path: string, x: Tensor, layers: Layers): Tensor {
  return layerNorm(x, layers.weight(`${path}.weight`), layers.weight(`${path}.bias`), c.normEpsilon);
}

/** x [rows, length, hidden] -> [rows, length, hidden] */
function attention(c: BertConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(c, index)}.attention`;
  const heads = (name: string): Tensor => splitHeads(layers.linear(`${path}.self.${name}`, x), c.heads);
  const attended = layers.attend({
    layer: index,
    query: heads('query'),
    key: heads('key'),
    value: heads('value'),
    scale: (c.hiddenSize / c.heads) ** -0.5,
    window: null,
    bothWays: true,
  });
  return layers.linear(`${path}.output.dense`, mergeHeads(attended));
}

function block(c: BertConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = layerPath(c, index);
  const mixed = tf.add(x, attention(c, index, x, layers));
  const attended = norm(c, `${path}.attention.output.LayerNorm`, mixed, layers);
  const inner = c.activation(layers.linear(`${path}.intermediate.dense`, attended));
  const fed = tf.add(attended, layers.linear(`${path}.output.dense`, inner));
  return norm(c, `${path}.output.LayerNorm`, fed, layers);
}

function hidden(c: BertConfig, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const table = (name: string): Tensor => layers.weight(`${c.prefix}embeddings.${name}.weight`);
  const rows = c.firstPosition === 0 ? positions : tf.add(positions, tf.scalar(c.firstPosition, 'int32'));
  const firstType = tf.slice(table('token_type_embeddings'), [0, 0], [1, c.hiddenSize]);
  const embedded = tf.add(
    tf.add(
      embedTokens(table('word_embeddings'), tokens, c.padId),
      tf.gather(table('position_embeddings'), rows),
    ),
    tf.reshape(firstType, [c.hiddenSize]),
  );
  let x = norm(c, `${c.prefix}embeddings.LayerNorm`, embedded, layers);
  for (let index = 0; index < c.layers; index++) x = block(c, index, x, layers);
  return x;
}

export const bert: Architecture<BertConfig> = {
  name: 'bert',
  kind: 'encoder',
  serves: Object.keys(SERVED),
  readConfig,
  shape: c => ({
    layers: c.layers,
    hiddenSize: c.hiddenSize,
    heads: c.heads,
    kvHeads: c.heads,
    headDim: c.hiddenSize / c.heads,
    vocabSize: c.vocabSize,
    maxPositions: c.positionRows - c.firstPosition,
  }),
  tensors,
  canonicalName,
  isHead: (c, name) => c.family.heads.test(name),
  linearLayers,
  hidden,
  outputWeight: () => null,
};
