// The metric of each method besides the loss, as metrics spell it: `train_mean_token_accuracy`.
import type { MethodName } from './protocol.ts';

export const MEASURES = {
  supervised: 'mean_token_accuracy',
  dpo: 'reward_accuracy',
  classification: 'accuracy',
  regression: 'mean_absolute_error',
  embedding: 'accuracy',
  reinforcement: 'kl',
} as const satisfies Record<MethodName, string>;

export type Measure = (typeof MEASURES)[MethodName];
