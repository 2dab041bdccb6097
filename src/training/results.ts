// The results file of a job: OpenAI's columns, with the method's own metric in their places.
import { MEASURES } from './measures.ts';
import type { MethodName, StepMetrics } from './protocol.ts';

/** Columns of reinforcement. */
const REWARDS = [
  'step',
  'train_loss',
  'train_reward_mean',
  'train_reward_std',
  'train_kl',
  'valid_reward_mean',
  'full_valid_reward_mean',
];

/** Name in the file, name of the metric. */
function columnsOf(method: MethodName): [string, string][] {
  if (method === 'reinforcement') return REWARDS.map(name => [name, name]);
  const measure = MEASURES[method];
  // OpenAI calls the accuracy of tokens by two names.
  const trained = measure === 'mean_token_accuracy' ? 'train_accuracy' : `train_${measure}`;
  return [
    ['step', 'step'],
    ['train_loss', 'train_loss'],
    [trained, `train_${measure}`],
    ['valid_loss', 'valid_loss'],
    [`valid_${measure}`, `valid_${measure}`],
  ];
}

const cell = (value: number | undefined) => (value === undefined ? '' : String(Number(value.toFixed(5))));

export function resultsCsv(history: readonly StepMetrics[], method: MethodName): string {
  const columns = columnsOf(method);
  return [
    columns.map(([name]) => name).join(','),
    ...history.map(metrics => columns.map(([, key]) => cell(metrics[key])).join(',')),
    '',
  ].join('\n');
}
