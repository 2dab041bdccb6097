// Contrastive embeddings: an anchor's positive should be its nearest of all texts in the batch (InfoNCE,
// https://arxiv.org/abs/1807.03748; sentence-transformers' MultipleNegativesRankingLoss).
import type { Tensor } from '@tensorflow/tfjs';
import type { Example } from '../../data/example-form.ts';
import { pairForm } from '../../data/pairs.ts';
import type { HostArrays } from '../../engine/program.ts';
import { tf } from '../../engine/tf.ts';
import { evaluateRetrieval } from '../../evaluation/evaluate-retrieval.ts';
import { fillPooling, type PoolingMode, readPooling } from '../../models/pooling.ts';
import type { Model } from '../../models/registry.ts';
import { TrainingFailure } from '../failure.ts';
import type { MicroBatchPlan } from '../layout.ts';
import { MEASURES } from '../measures.ts';
import { packTokens, startsIn, tokenInputs } from '../micro-batch.ts';
import { type MicroBatchShape, SLOPES } from '../programs.ts';
import type { Method } from '../protocol.ts';
import type { BatchLoss, LossTensors, Objective, OpenObjective } from './objective.ts';

/** Anchor, positive, negative. */
const VECTORS = pairForm.sequences;
/** Upper bound of the examples in a batch (hyperparameters.ts) and in a validation window (validation.ts). */
const MOST_EXAMPLES = 256;
/** sentence-transformers' scale of 20. */
const TEMPERATURE = 0.05;
/** Default batch size; larger batches have more negatives. */
const BATCH = 32;
/** Masks a score: softmax makes it exactly 0 beside any other. */
const HIDDEN = -1e9;

const textsOf = ({ rows, length }: MicroBatchShape): number =>
  VECTORS * Math.min(MOST_EXAMPLES, rows * length);

/**
 * The tokens, and pooling [texts, rows * length]: the weight of each token's state in each text's vector; zeros for
 * absent texts.
 */
function packPooled(plan: MicroBatchPlan, examples: readonly Example[], mode: PoolingMode): HostArrays {
  const tokens = plan.shape.rows * plan.shape.length;
  const pooling = new Float32Array(textsOf(plan.shape) * tokens);
  for (const [index, { place, start }] of startsIn(plan, examples).entries()) {
    let from = start;
    for (const [i, { tokens: own }] of examples[place]!.sequences.entries()) {
      const row = (index * VECTORS + i) * tokens;
      if (own.length > 0) fillPooling(mode, pooling.subarray(row + from, row + from + own.length));
      from += own.length;
    }
  }
  const { targets: _, ...row } = packTokens(plan, examples);
  return { ...row, pooling };
}

/** Normalizes x [texts, width]; rows that are not present [texts, 1] stay zero. */
function unit(x: Tensor, present: Tensor): Tensor {
  const square = tf.add(tf.sum(tf.square(x), 1, true), tf.sub(1, present));
  return tf.mul(x, tf.rsqrt(tf.maximum(square, 1e-24)));
}

/**
 * Cross-entropy of each anchor's positive among all texts, averaged over the anchors. Score: anchors whose positive is
 * the nearest.
 */
function contrast(vectors: Tensor, present: Tensor, temperature: number): LossTensors {
  const [examples, , width] = vectors.shape as [number, number, number];
  const there = tf.split(present, VECTORS, 1) as [Tensor, Tensor, Tensor];
  const [anchors, positives, negatives] = tf
    .split(vectors, VECTORS, 1)
    .map((part, i) => unit(tf.reshape(part, [examples, width]), there[i]!)) as [Tensor, Tensor, Tensor];
  const texts = tf.concat([positives, negatives], 0);
  const hidden = tf.mul(tf.sub(1, tf.reshape(tf.concat([there[1], there[2]], 0), [1, -1])), HIDDEN);
  const products: Tensor = tf.matMul(anchors as never, texts as never, false, true);
  const scores = tf.add(tf.mul(products, 1 / temperature), hidden); // [examples, 2 * examples]
  const own = tf.add(
    tf.mul(tf.sum(tf.mul(anchors, positives), 1), 1 / temperature),
    tf.reshape(tf.mul(tf.sub(1, there[1]), HIDDEN), [examples]),
  );
  const counted = tf.reshape(there[0], [examples]);
  // Tolerance: the positive must not lose to itself by rounding.
  const nearest = tf.greaterEqual(tf.add(own, 1e-4), tf.max(scores, 1));
  return {
    lossSum: tf.sum(tf.mul(tf.sub(tf.logSumExp(scores, 1), own), counted)),
    score: tf.sum(tf.mul(tf.cast(nearest, 'float32'), counted)),
    count: tf.sum(counted),
  };
}

export function embedding(model: Model, mode: PoolingMode, temperature: number): Objective {
  const { hiddenSize } = model.shape;
  const batch: BatchLoss = {
    vectors: VECTORS,
    texts: textsOf,
    vectorsOf({ layers }, { tokens, positions, segments, pooling }) {
      const states = tf.reshape(model.hidden(tokens!, positions!, layers(segments!)), [-1, hiddenSize]);
      return tf.matMul(pooling as never, states as never);
    },
    loss: (vectors, present) => contrast(vectors, present, temperature),
  };
  return {
    form: pairForm,
    measure: MEASURES.embedding,
    head: null,
    unused: [],
    batch,
    batchSize: examples => Math.min(BATCH, Math.max(2, Math.floor(examples / 8))),
    inputs(shape) {
      const { targets: _, ...row } = tokenInputs(shape);
      const texts = textsOf(shape);
      return {
        ...row,
        pooling: { shape: [texts, shape.rows * shape.length], dtype: 'float32' },
        [SLOPES]: { shape: [texts, hiddenSize], dtype: 'float32' },
      };
    },
    pack: (plan, examples) => ({
      ...packPooled(plan, examples, mode),
      [SLOPES]: new Float32Array(textsOf(plan.shape) * hiddenSize),
    }),
    loss: (forward, inputs) => ({
      lossSum: tf.sum(tf.mul(batch.vectorsOf(forward, inputs), inputs[SLOPES]!)),
      score: tf.scalar(0),
      count: tf.scalar(0),
    }),
    evaluate: evaluateRetrieval,
  };
}

/** An untied output projection gets no gradient from vectors, and a model saved without it could not be opened. */
function refuseUnread({ architecture, outputWeight }: Model): void {
  if (!outputWeight || !/^(lm_head|embed_out)\./.test(outputWeight)) return;
  throw new TrainingFailure(
    'invalid_hyperparameter',
    '.hyperparameters.adapter',
    `adapter 'full' is not supported for embeddings of this ${architecture} model: its ${outputWeight} would be left untrained. Use 'lora'.`,
  );
}

export const openEmbedding: OpenObjective<Extract<Method, { type: 'embedding' }>> = async inputs => {
  const { model, method, hyperparameters } = inputs;
  const { mode } = await readPooling(model);
  if (hyperparameters.adapter === 'full') refuseUnread(model);
  return embedding(model, mode, method.temperature ?? TEMPERATURE);
};
