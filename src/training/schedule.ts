// The learning rate schedule: linear warm-up, then decay to zero (or none). A pure function of the step.

const decays = {
  cosine: progress => 0.5 * (1 + Math.cos(Math.PI * progress)),
  linear: progress => 1 - progress,
  constant: () => 1,
} satisfies Record<string, (progress: number) => number>;

type Schedule = keyof typeof decays;

export interface ScheduleOptions {
  readonly learning_rate: number;
  readonly warmup_ratio: number;
  readonly schedule: Schedule;
}

/** Steps count from 1. As transformers' schedulers, except that the first warm-up step does not have rate zero. */
export function learningRateAt(step: number, totalSteps: number, options: ScheduleOptions): number {
  const warmupSteps = Math.ceil(totalSteps * options.warmup_ratio);
  if (step <= warmupSteps) return (options.learning_rate * step) / (warmupSteps + 1);
  const progress = (step - 1 - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  return options.learning_rate * decays[options.schedule](progress);
}
