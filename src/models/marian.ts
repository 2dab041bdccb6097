// Marian (translation, the OPUS-MT models): sinusoidal positions, which are computed, no norm after the embeddings, one
// shared vocabulary or two. Its layers are in post-norm.ts.
import type { Tensor } from '@tensorflow/tfjs';
import { lookUp } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import type { Architecture, Layers } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, refuse } from './config-fields.ts';
import type { NamedShape } from './linear-layers.ts';
import { ModelError } from './model-error.ts';
import {
  isOutput,
  LOGIT_BIAS,
  type PostNormConfig,
  postNormLayers,
  postNormLinears,
  postNormShape,
  postNormTensors,
  readPostNorm,
  type Side,
} from './post-norm.ts';

interface MarianConfig extends PostNormConfig {
  /** Vocabulary of the source, and of the answer. */
  readonly vocabSize: number;
  readonly decoderVocabSize: number;
  /** One embedding table for both. */
  readonly shared: boolean;
  readonly tied: boolean;
  readonly embeddingScale: number;
  /** False with a head for whole texts: no output projection. */
  readonly generates: boolean;
  readonly biased: boolean;
}

/** Anneal's name: transformers has no such class. docs/models.md has one that loads what is trained here. */
const WITH_HEAD = 'MarianForSequenceClassification';

const UNREADABLE =
  'config.json: with share_encoder_decoder_embeddings false there is no head for classes or numbers: ' +
  'its decoder would read the source, and has a vocabulary of its own';

function readConfig(json: ConfigJson, served: string): MarianConfig {
  refuse(json, 'normalize_before', false);
  refuse(json, 'normalize_embedding', false);
  refuse(json, 'add_final_layer_norm', false);
  refuse(json, 'static_position_embeddings', true);
  const generates = served !== WITH_HEAD;
  const layers = readPostNorm(json, 58_100);
  const vocabSize = readCount(json, 'vocab_size', 58_101);
  const shared = readFlag(json, 'share_encoder_decoder_embeddings', true);
  if (!shared && !generates) throw new ModelError(UNREADABLE);
  return {
    ...layers,
    vocabSize,
    decoderVocabSize: shared ? vocabSize : readCount(json, 'decoder_vocab_size', vocabSize),
    shared,
    tied: readFlag(json, 'tie_word_embeddings', true),
    embeddingScale: readFlag(json, 'scale_embedding', false) ? Math.sqrt(layers.hiddenSize) : 1,
    generates,
    biased: true,
  };
}

const SHARED = 'model.shared.weight';

const tableName = (c: MarianConfig, side: Side): string =>
  c.shared ? SHARED : `model.${side}.embed_tokens.weight`;

function tables(c: MarianConfig): NamedShape[] {
  const own: NamedShape[] = [
    [tableName(c, 'encoder'), [c.vocabSize, c.hiddenSize]],
    [tableName(c, 'decoder'), [c.decoderVocabSize, c.hiddenSize]],
  ];
  return c.tied || !c.generates ? own : [...own, ['lm_head.weight', [c.decoderVocabSize, c.hiddenSize]]];
}

const tensors = (c: MarianConfig): Record<string, readonly number[]> =>
  Object.fromEntries([
    ...tables(c),
    ...(c.biased ? [[LOGIT_BIAS, [1, c.decoderVocabSize]] as const] : []),
    ...postNormTensors(c),
  ]);

/**
 * Sines in the first half, cosines in the second (https://arxiv.org/abs/1706.03762, but not interleaved): [positions,
 * size].
 */
function sinusoids(positions: number, size: number): Float32Array {
  const sines = Math.ceil(size / 2);
  return Float32Array.from({ length: positions * size }, (_, at) => {
    const [position, feature] = [Math.floor(at / size), at % size];
    const pair = feature < sines ? feature : feature - sines;
    const angle = position / 10_000 ** ((2 * pair) / size);
    return feature < sines ? Math.sin(angle) : Math.cos(angle);
  });
}

function stack(c: MarianConfig, side: Side, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const words = tf.mul(lookUp(layers.weight(tableName(c, side)), tokens, c.padId), c.embeddingScale);
  const table = tf.tensor2d(sinusoids(c.maxPositions, c.hiddenSize), [c.maxPositions, c.hiddenSize]);
  return postNormLayers(c, side, tf.add(words, tf.gather(table, positions)), layers);
}

export const marian: Architecture<MarianConfig> = {
  name: 'marian',
  kind: 'encoder-decoder',
  serves: ['MarianMTModel', WITH_HEAD],
  readConfig,
  withTensors: (c, names) => ({ ...c, biased: c.generates && names.has(LOGIT_BIAS) }),
  shape: c => postNormShape(c, c.decoderVocabSize),
  tensors,
  /** Positions are computed; older files contain them too. */
  canonicalName: (_, name) => (name.endsWith('.embed_positions.weight') ? null : name),
  copies: (c): Record<string, string> =>
    c.shared
      ? { 'model.encoder.embed_tokens.weight': SHARED, 'model.decoder.embed_tokens.weight': SHARED }
      : {},
  isHead: (c, name) => !c.generates && isOutput(name),
  linearLayers: postNormLinears,
  encode: (c, tokens, positions, layers) => stack(c, 'encoder', tokens, positions, layers),
  hidden: (c, tokens, positions, layers) => stack(c, 'decoder', tokens, positions, layers),
  outputWeight(c) {
    if (!c.generates) return null;
    return c.tied ? tableName(c, 'decoder') : 'lm_head.weight';
  },
  logitBias: c => (c.biased ? LOGIT_BIAS : null),
};
