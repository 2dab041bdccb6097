// API schemas of step metrics of a job, as list objects and as CSV.
import { type Static, Type } from 'typebox';
import type { StepRow } from '../store/metrics.ts';
import { MEASURES, type Measure } from '../training/measures.ts';
import type { MethodName } from '../training/protocol.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, type WithDefaults } from './lists.ts';

/** Metric names by method, to be prefixed with `train_`, `valid_` and `full_valid_`. */
const measures: Record<Exclude<Measure, 'kl'>, string> = {
  mean_token_accuracy: 'Share of the trained tokens that the model predicts.',
  reward_accuracy: 'Share of the pairs whose preferred answer gained more.',
  accuracy:
    'Share of correct texts, or of correct text-label pairs; for embeddings, share of anchors nearest to their positive.',
  mean_absolute_error: 'Mean absolute error.',
};

const ALWAYS = {
  learning_rate: 'Learning rate of this step.',
  gradient_norm: 'Norm before clipping.',
  seconds: 'Duration of the step.',
};

const metricsWith = (of: readonly (keyof typeof measures)[]): Record<string, string> => {
  const measured = (prefix: string) =>
    Object.fromEntries(of.map(measure => [prefix + measure, measures[measure]]));
  return {
    epoch: 'Counts from 1.',
    train_loss: 'Mean loss over the trained tokens, or the examples, of the batch.',
    ...measured('train_'),
    valid_loss: 'Loss on a few validation examples; not at every step.',
    ...measured('valid_'),
    full_valid_loss: 'Loss on the whole validation file, at the end of an epoch.',
    ...measured('full_valid_'),
    ...ALWAYS,
  };
};

/** Metrics of reinforcement fine-tuning. */
const rewards: Record<string, string> = {
  epoch: 'Counts from 1.',
  train_loss: 'Mean loss over the trained tokens, or the examples, of the batch.',
  train_kl: 'KL divergence from the model at the start, mean over the tokens.',
  train_reward_mean: "Mean score of the step's answers.",
  train_reward_std: 'Standard deviation of the scores for one prompt, mean over the prompts.',
  train_completion_length: 'Mean tokens per answer.',
  valid_reward_mean: 'Mean score on a few validation prompts, every `eval_interval` steps.',
  full_valid_reward_mean: 'Mean score on the whole validation file, at the end of an epoch.',
  ...ALWAYS,
};

const allMetrics = { ...metricsWith(Object.keys(measures) as (keyof typeof measures)[]), ...rewards };
const names = Object.keys(allMetrics);

/** Metrics that are measured on examples. */
export const measuredNames = names.filter(name => /^(train|valid|full_valid)_/.test(name));

/** Names of the metrics of a step for a method. */
export const metricNamesOf = (method: MethodName): string[] => {
  const measure = MEASURES[method];
  return Object.keys(measure === 'kl' ? rewards : metricsWith([measure]));
};

export const FineTuningJobMetrics = Type.Object(
  {
    id: Type.String({ description: '`step-` and the step number.' }),
    object: Type.Literal('fine_tuning.job.metrics'),
    fine_tuning_job_id: Type.String(),
    step_number: Type.Integer({ description: 'Counts from 1.' }),
    metrics: Type.Object(
      Object.fromEntries(
        names.map(name => [name, Type.Optional(Type.Number({ description: allMetrics[name]! }))]),
      ),
    ),
  },
  { $id: 'FineTuningJobMetrics', description: 'Metrics of one step.' },
);

export const ListMetricsQuery = Type.Object({
  after: After,
  limit: Limit(100, 1000),
  order: Type.Optional(Choice(['asc', 'desc'], { default: 'asc', description: 'Order by step.' })),
  format: Type.Optional(
    Choice(['json', 'csv'], {
      default: 'json',
      description: '`csv`: all steps from the first as CSV; `after`, `limit` and `order` do not apply.',
    }),
  ),
});
export type ListMetricsQuery = WithDefaults<Static<typeof ListMetricsQuery>, 'limit' | 'order' | 'format'>;

export const ListFineTuningJobMetricsResponse = ListOf(
  'ListFineTuningJobMetricsResponse',
  Type.Ref('FineTuningJobMetrics'),
  'A page of steps.',
);

export function stepToWire(jobId: string, { step, metrics }: StepRow) {
  const known = names.filter(name => typeof metrics[name] === 'number');
  return {
    object: 'fine_tuning.job.metrics' as const,
    id: `step-${step}`,
    fine_tuning_job_id: jobId,
    step_number: step,
    metrics: Object.fromEntries(known.map(name => [name, metrics[name]])),
  };
}

/** The step number in an id; null for an invalid id. */
export function stepOfId(id: string): number | null {
  const digits = /^step-(\d{1,9})$/.exec(id)?.[1];
  return digits === undefined ? null : Number(digits);
}

export const csvHeader = (names: readonly string[]): string => `${['step', ...names].join(',')}\n`;

/** JSON number format; empty if not measured. */
export const csvLine = ({ step, metrics }: StepRow, names: readonly string[]): string =>
  `${[step, ...names.map(name => metrics[name] ?? '')].join(',')}\n`;

export const exampleStep = {
  object: 'fine_tuning.job.metrics',
  id: 'step-10',
  fine_tuning_job_id: 'ftjob-Abc123Abc123Abc123Abc123',
  step_number: 10,
  metrics: {
    epoch: 1,
    train_loss: 1.24,
    train_mean_token_accuracy: 0.61,
    learning_rate: 0.0002,
    gradient_norm: 0.8,
    seconds: 1.9,
  },
};
