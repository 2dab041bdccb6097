// Regression: a number per text, by mean squared error.

import { readsOf, regressionForm } from '../../data/labelled.ts';
import { tf } from '../../engine/tf.ts';
import { evaluateRegression } from '../../evaluation/evaluate-regression.ts';
import { MEASURES } from '../measures.ts';
import type { Objective, OpenObjective } from './objective.ts';
import { openHead, outputsOf, packTexts, type TextOutputs, textInputs } from './text-outputs.ts';

/** Score: sum of the absolute errors. */
export function regression({ head, trained }: TextOutputs, trainingFile: string): Objective {
  return {
    form: regressionForm,
    measure: MEASURES.regression,
    head: trained,
    unused: [],
    inputs: shape => textInputs(shape, 1),
    pack: (plan, examples) => packTexts(plan, examples, 1, head.pooling),
    loss(forward, inputs) {
      const { targets, present } = inputs;
      const counted = tf.expandDims(present!, 1);
      const errors = tf.mul(tf.sub(outputsOf(forward, inputs, head), targets!), counted); // [texts, 1]
      return {
        lossSum: tf.sum(tf.square(errors)),
        score: tf.sum(tf.abs(errors)),
        count: tf.sum(tf.cast(present!, 'int32')),
      };
    },
    evaluate: evaluation => evaluateRegression({ ...evaluation, trainingFile }),
  };
}

/** Label of the only output, for files that need one. */
const VALUE = 'value';

export const openRegression: OpenObjective = async inputs => {
  const { trainingFile } = inputs;
  const meaning = { problem: 'regression', labels: [VALUE], reads: await readsOf(trainingFile) } as const;
  return regression(await openHead(inputs, meaning), trainingFile);
};
