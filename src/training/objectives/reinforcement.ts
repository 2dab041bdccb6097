// Group relative policy optimization (GRPO, https://arxiv.org/abs/2402.03300) with one gradient step per set of
// answers: answers with a higher reward than others to the same prompt become more probable. rollouts.ts generates the
// answers and their rewards.

import { type Example, tokensOf } from '../../data/example-form.ts';
import { promptForm } from '../../data/prompts.ts';
import { tokenLosses } from '../../engine/ops.ts';
import type { HostArrays, TensorSpec, Tensors } from '../../engine/program.ts';
import { tf } from '../../engine/tf.ts';
import { type CausalModel, type Model, requireCausal } from '../../models/registry.ts';
import type { AnswerForm } from '../../serving/answer-grammar.ts';
import { findToolForm } from '../../serving/tool-forms.ts';
import { evaluateRollouts } from '../evaluate-rollouts.ts';
import { type RolloutNumbers, resolveRollouts } from '../hyperparameters.ts';
import type { MicroBatchPlan } from '../layout.ts';
import { MEASURES } from '../measures.ts';
import { packTokens, startsIn, tokenInputs } from '../micro-batch.ts';
import type { MicroBatchShape } from '../programs.ts';
import type { MethodSettings } from '../protocol.ts';
import type { Forward, Objective, OpenObjective, RolloutSettings } from './objective.ts';

/** Group size with `compute_multiplier` 1, as in trl. A group of one has nothing to be compared with. */
const GROUP = 8;
const SMALLEST_GROUP = 2;
/**
 * Fraction of the supervised learning rate: policy gradients are noisy, and larger rates move too far from the start.
 */
const RATE = 0.1;

/**
 * Inputs besides tokens, all [rows, length] float32: `advantages` of the answer, at every token of its example;
 * `reference`: log p of the tokens at the start of the run.
 */
function answerInputs(shape: MicroBatchShape): Record<string, TensorSpec> {
  const spec: TensorSpec = { shape: [shape.rows, shape.length], dtype: 'float32' };
  return { ...tokenInputs(shape), advantages: spec, reference: spec };
}

/** An example's values are its advantage, then the reference of every token. */
function packAnswers(plan: MicroBatchPlan, examples: readonly Example[]): HostArrays {
  const { rows, length } = plan.shape;
  const advantages = new Float32Array(rows * length);
  const reference = new Float32Array(rows * length);
  for (const { place, start } of startsIn(plan, examples)) {
    const example = examples[place]!;
    const [advantage = 0, ...places] = Array.from(example.values);
    advantages.fill(advantage, start, start + tokensOf(example));
    reference.set(places, start);
  }
  return { ...packTokens(plan, examples), advantages, reference };
}

/** -log p of the answers' tokens, at the token before each, 0 elsewhere: [rows, length]. */
function answerLosses(model: CausalModel, { weight, layers }: Forward, inputs: Tensors) {
  const { tokens, targets, positions, segments } = inputs;
  const hidden = model.hidden(tokens!, positions!, layers(segments!));
  const states = tf.reshape(hidden, [-1, model.shape.hiddenSize]);
  const layer = { weight: weight(model.outputWeight), softcap: model.logitSoftcap };
  return tf.reshape(tokenLosses(states, layer, tf.reshape(targets!, [-1])), tokens!.shape);
}

/**
 * The mean over tokens of advantage times -log p, plus coefficient times KL. The answers are the current model's own,
 * so the probability ratio is 1 and its gradient that of log p. KL to the model at the start is estimated by k3 of
 * http://joschu.net/blog/kl-approx.html, which is also the score. `calls`: the model can call tools.
 */
export function reinforcement(
  given: Model,
  numbers: RolloutNumbers,
  { form, calls }: { form: AnswerForm | null; calls: boolean },
): Objective {
  const model = requireCausal(given);
  const prompts = promptForm(numbers.max_completion_length, calls);
  const rollouts: RolloutSettings = {
    group: Math.max(SMALLEST_GROUP, Math.round(GROUP * numbers.compute_multiplier)),
    answerLength: numbers.max_completion_length,
    evalInterval: numbers.eval_interval,
    evalSamples: numbers.eval_samples,
    form,
  };
  return {
    form: prompts,
    measure: MEASURES.reinforcement,
    hyperparameters: numbers,
    rate: RATE,
    head: null,
    unused: [],
    rollouts,
    inputs: answerInputs,
    pack: packAnswers,
    reference: (forward, inputs) => tf.neg(answerLosses(model, forward, inputs)),
    loss(forward, inputs) {
      const { targets, advantages, reference } = inputs;
      const losses = answerLosses(model, forward, inputs);
      const learnt = tf.cast(tf.greaterEqual(targets!, 0), 'float32');
      const apart = tf.mul(tf.add(reference!, losses), learnt); // log (p at the start / p)
      const kl = tf.sub(tf.sub(tf.exp(apart), apart), 1);
      return {
        lossSum: tf.sum(tf.add(tf.mul(advantages!, losses), tf.mul(kl, numbers.kl_coefficient))),
        score: tf.sum(kl),
        count: tf.sum(tf.cast(learnt, 'int32')),
      };
    },
    evaluate: evaluation => evaluateRollouts(rollouts, prompts, evaluation),
  };
}

/** The type `text` is no constraint. */
function answerFormOf({ response_format: format }: MethodSettings['reinforcement']): AnswerForm | null {
  if (!format || format.type === 'text') return null;
  const { schema = {}, strict } = format.json_schema ?? { schema: { type: 'object' } };
  return { json: { schema, strict: strict ?? false, param: 'response_format' }, calls: null };
}

export const openReinforcement: OpenObjective<
  { type: 'reinforcement' } & MethodSettings['reinforcement']
> = async ({ method, hyperparameters, model, tokenizer }) =>
  reinforcement(model, resolveRollouts(hyperparameters, model), {
    form: answerFormOf(method),
    calls: findToolForm(tokenizer.chatTemplates) !== null,
  });
