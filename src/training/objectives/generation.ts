// Objective of causal models: the tokens of an answer, given the preceding tokens.

import { generationForm } from '../../data/examples.ts';
import { crossEntropySums } from '../../engine/ops.ts';
import { tf } from '../../engine/tf.ts';
import { byGeneration } from '../../evaluation/generate.ts';
import { type Model, requireCausal } from '../../models/registry.ts';
import { MEASURES } from '../measures.ts';
import { packTokens, tokenInputs } from '../micro-batch.ts';
import type { Objective, OpenObjective } from './objective.ts';

/** tokens, targets (-1: none), positions, segments: [rows, length] int32. Score: tokens predicted correctly. */
export function generation(model: Model): Objective {
  const { outputWeight, shape, logitSoftcap, hidden } = requireCausal(model);
  return {
    form: generationForm,
    measure: MEASURES.supervised,
    head: null,
    unused: [],
    inputs: tokenInputs,
    pack: packTokens,
    loss({ weight, layers }, { tokens, targets, positions, segments }) {
      const states = tf.reshape(hidden(tokens!, positions!, layers(segments!)), [-1, shape.hiddenSize]);
      const learnt = tf.reshape(targets!, [-1]);
      const { lossSum, correct, count } = crossEntropySums(
        states,
        weight(outputWeight),
        learnt,
        logitSoftcap,
      );
      return { lossSum, score: correct, count };
    },
    ...byGeneration(),
  };
}

export const openGeneration: OpenObjective = async ({ model }) => generation(model);
