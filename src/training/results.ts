// The results file of a job, in OpenAI's columns.
import type { StepMetrics } from './protocol.ts';

const COLUMNS = [
  ['step', 'step'],
  ['train_loss', 'train_loss'],
  ['train_accuracy', 'train_mean_token_accuracy'],
  ['valid_loss', 'valid_loss'],
  ['valid_mean_token_accuracy', 'valid_mean_token_accuracy'],
] as const satisfies readonly (readonly [string, keyof StepMetrics])[];

const cell = (value: number | undefined) => (value === undefined ? '' : String(Number(value.toFixed(5))));

export const resultsCsv = (history: readonly StepMetrics[]): string =>
  [
    COLUMNS.map(([name]) => name).join(','),
    ...history.map(metrics => COLUMNS.map(([, key]) => cell(metrics[key])).join(',')),
    '',
  ].join('\n');
