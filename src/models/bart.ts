// BART (https://arxiv.org/abs/1910.13461): learned positions with an offset of 2, and a norm after the embeddings. Its
// layers are in post-norm.ts.
import type { Tensor } from '@tensorflow/tfjs';
import { lookUp } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import type { Architecture, Layers } from './architecture.ts';
import { type ConfigJson, readCount, readFlag, refuse } from './config-fields.ts';
import { normTensors } from './linear-layers.ts';
import {
  isOutput,
  LOGIT_BIAS,
  type PostNormConfig,
  postNorm,
  postNormLayers,
  postNormLinears,
  postNormShape,
  postNormTensors,
  readPostNorm,
  SIDES,
  type Side,
} from './post-norm.ts';

interface BartConfig extends PostNormConfig {
  readonly vocabSize: number;
  readonly embeddingScale: number;
  readonly tied: boolean;
  /** False with a head for whole texts: no output projection. */
  readonly generates: boolean;
  /** Files of a model without an output layer (`BartModel`, as bart-base is published) have no bias of the logits. */
  readonly biased: boolean;
}

const WITH_HEAD = 'BartForSequenceClassification';

function readConfig(json: ConfigJson, served: string): BartConfig {
  refuse(json, 'normalize_before', false);
  refuse(json, 'normalize_embedding', true);
  refuse(json, 'add_final_layer_norm', false);
  refuse(json, 'static_position_embeddings', false);
  const layers = readPostNorm(json, 1);
  return {
    ...layers,
    vocabSize: readCount(json, 'vocab_size', 50_265),
    embeddingScale: readFlag(json, 'scale_embedding', false) ? Math.sqrt(layers.hiddenSize) : 1,
    tied: readFlag(json, 'tie_word_embeddings', true),
    generates: served !== WITH_HEAD,
    biased: true,
  };
}

/** The first two rows of the position table belong to fairseq's padding. */
const POSITION_OFFSET = 2;

function tensors(c: BartConfig): Record<string, readonly number[]> {
  const table = [c.vocabSize, c.hiddenSize];
  return Object.fromEntries([
    ['model.shared.weight', table],
    ...(c.tied || !c.generates ? [] : [['lm_head.weight', table]]),
    ...(c.biased ? [[LOGIT_BIAS, [1, c.vocabSize]]] : []),
    ...SIDES.flatMap(side => [
      [`model.${side}.embed_positions.weight`, [c.maxPositions + POSITION_OFFSET, c.hiddenSize]],
      ...normTensors(`model.${side}.layernorm_embedding`, c.hiddenSize),
    ]),
    ...postNormTensors(c),
  ]);
}

function stack(c: BartConfig, side: Side, tokens: Tensor, positions: Tensor, layers: Layers): Tensor {
  const words = tf.mul(lookUp(layers.weight('model.shared.weight'), tokens, c.padId), c.embeddingScale);
  const places = tf.add(positions, tf.scalar(POSITION_OFFSET, 'int32'));
  const placed = tf.add(words, tf.gather(layers.weight(`model.${side}.embed_positions.weight`), places));
  return postNormLayers(c, side, postNorm(`model.${side}.layernorm_embedding`, placed, layers), layers);
}

const UNPREFIXED = /^(shared|encoder|decoder)\./;

export const bart: Architecture<BartConfig> = {
  name: 'bart',
  kind: 'encoder-decoder',
  serves: ['BartForConditionalGeneration', 'BartModel', WITH_HEAD],
  readConfig,
  withTensors: (c, names) => ({ ...c, biased: c.generates && names.has(LOGIT_BIAS) }),
  shape: c => postNormShape(c, c.vocabSize),
  tensors,
  canonicalName: (_, name) => (UNPREFIXED.test(name) ? `model.${name}` : name),
  copies: () => ({
    'model.encoder.embed_tokens.weight': 'model.shared.weight',
    'model.decoder.embed_tokens.weight': 'model.shared.weight',
  }),
  isHead: (c, name) => !c.generates && isOutput(name),
  linearLayers: postNormLinears,
  encode: (c, tokens, positions, layers) => stack(c, 'encoder', tokens, positions, layers),
  hidden: (c, tokens, positions, layers) => stack(c, 'decoder', tokens, positions, layers),
  outputWeight(c) {
    if (!c.generates) return null;
    return c.tied ? 'model.shared.weight' : 'lm_head.weight';
  },
  logitBias: c => (c.biased ? LOGIT_BIAS : null),
};
