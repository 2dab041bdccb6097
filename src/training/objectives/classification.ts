// Classification: softmax cross-entropy for one label per text, or binary cross-entropy per class for several.

import type { Tensor } from '@tensorflow/tfjs';
import { classificationForm, readsOf } from '../../data/labelled.ts';
import { type LabelSet, type LabelSettings, readLabels } from '../../data/labels.ts';
import type { Tensors } from '../../engine/program.ts';
import { tf } from '../../engine/tf.ts';
import { evaluateClassification } from '../../evaluation/evaluate-classification.ts';
import { MEASURES } from '../measures.ts';
import type { Method } from '../protocol.ts';
import type { LossTensors, Objective, OpenObjective } from './objective.ts';
import { openHead, outputsOf, packTexts, type TextOutputs, textInputs } from './text-outputs.ts';

const ones = (tensor: Tensor): Tensor => tf.cast(tensor, 'int32');

/**
 * Like `torch.nn.CrossEntropyLoss` with class weights: the sum is divided by the targets' weights. Score: texts
 * classified correctly.
 */
function singleLoss(
  outputs: Tensor,
  { targets, present }: Tensors,
  weights: readonly number[] | null,
): LossTensors {
  const classes = outputs.shape[1]!;
  const places = tf.range(0, classes, 1, 'float32').reshape([1, classes]);
  const own = tf.cast(tf.equal(targets!, places), 'float32'); // [texts, classes]
  const ownOutput = tf.sum(tf.mul(outputs, own), 1);
  const losses = tf.sub(tf.logSumExp(outputs, 1), ownOutput);
  const right = tf.mul(tf.cast(tf.greaterEqual(ownOutput, tf.max(outputs, 1)), 'float32'), present!);
  const weight = weights
    ? tf.mul(tf.sum(tf.mul(own, tf.tensor2d(weights as number[], [1, classes])), 1), present!)
    : present!;
  return {
    lossSum: tf.sum(tf.mul(losses, weight)),
    score: tf.sum(ones(right)),
    count: tf.sum(ones(present!)),
    weight: tf.sum(weight),
  };
}

/**
 * Like `torch.nn.BCEWithLogitsLoss` with class weights as `pos_weight`: the mean over texts and classes. Score: correct
 * decisions, one per text and class.
 */
function multipleLoss(
  outputs: Tensor,
  { targets, present }: Tensors,
  weights: readonly number[] | null,
): LossTensors {
  const classes = outputs.shape[1]!;
  const factors = tf.tensor2d((weights ?? new Array<number>(classes).fill(1)) as number[], [1, classes]);
  const missed = tf.mul(tf.mul(targets!, factors), tf.softplus(tf.neg(outputs)));
  const losses = tf.add(missed, tf.mul(tf.sub(1, targets!), tf.softplus(outputs)));
  const counted = tf.expandDims(present!, 1);
  const yes = tf.cast(tf.greater(outputs, 0), 'float32');
  const right = tf.mul(tf.cast(tf.equal(yes, targets!), 'float32'), counted);
  return {
    lossSum: tf.sum(tf.mul(losses, counted)),
    score: tf.sum(ones(right)),
    count: tf.mul(tf.sum(ones(present!)), tf.scalar(classes, 'int32')),
  };
}

/**
 * Weight of each class. `balanced` is scikit-learn's: lines / (classes * lines of the class); for several labels per
 * line, lines without the label per line with it.
 */
export function classWeights(
  { multiple, labels, lines, counts }: LabelSet,
  asked: LabelSettings['class_weights'],
): number[] | null {
  if (!asked) return null;
  if (asked !== 'balanced') return labels.map(label => asked[label] ?? 1);
  return labels.map(label => {
    const count = Math.max(1, counts.get(label) ?? 0);
    return multiple ? Math.max(1, lines - count) / count : lines / (labels.length * count);
  });
}

export function classification(
  outputs: TextOutputs,
  set: LabelSet,
  weights: readonly number[] | null,
): Objective {
  const { head, trained } = outputs;
  const form = classificationForm(set);
  const loss = set.multiple ? multipleLoss : singleLoss;
  return {
    form,
    measure: MEASURES.classification,
    head: trained,
    unused: [],
    inputs: shape => textInputs(shape, form.values),
    pack: (plan, examples) => packTexts(plan, examples, form.values, head.pooling),
    loss: (forward, inputs) => loss(outputsOf(forward, inputs, head), inputs, weights),
    evaluate: evaluation => evaluateClassification({ ...evaluation, training: set }),
  };
}

export const openClassification: OpenObjective<
  Extract<Method, { type: 'classification' }>
> = async inputs => {
  const { method, trainingFile } = inputs;
  const set = await readLabels(trainingFile, method);
  const meaning = {
    problem: set.multiple ? 'multiple' : 'single',
    labels: set.labels,
    reads: await readsOf(trainingFile),
  } as const;
  return classification(await openHead(inputs, meaning), set, classWeights(set, method.class_weights));
};
