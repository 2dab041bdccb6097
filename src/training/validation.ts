// Losses on the validation file: all of it, or a small rotating sample.
import type { Dataset } from '../data/dataset.ts';
import type { ValidationResult } from './checkpoint.ts';
import { addSums, type LossSums, NO_LOSS } from './sums.ts';
import type { Trainer } from './trainer.ts';

/** How a run is validated. */
export interface Validation extends Pick<Dataset, 'count' | 'truncated' | 'dropped' | 'equalAnswers'> {
  /** Whether a sample is measured after this step. */
  isDue(step: number, totalSteps: number): boolean;
  /** Measures the next sample of the file. */
  sample(step: number): Promise<ValidationResult>;
  all(): Promise<ValidationResult>;
}

export const validationByLoss = (trainer: Trainer, dataset: Dataset): Validation => ({
  count: dataset.count,
  truncated: dataset.truncated,
  dropped: dataset.dropped,
  equalAnswers: dataset.equalAnswers,
  isDue: isSampled,
  sample: step => validateSample(trainer, dataset, step),
  all: () => validateAll(trainer, dataset),
});

/** Examples packed together. */
const WINDOW = 64;
const SAMPLE = 4;
/** About how many steps of a run measure a sample. */
const SAMPLED_STEPS = 100;

const toResult = ({ trained }: Trainer, { loss, weight, score, count }: LossSums): ValidationResult => ({
  loss: loss / weight,
  [trained.objective.measure]: score / count,
});

const readMany = (dataset: Dataset, places: readonly number[]) =>
  places.map(place => dataset.read(place % dataset.count));

async function validateAll(trainer: Trainer, dataset: Dataset): Promise<ValidationResult> {
  let total = NO_LOSS;
  for (let start = 0; start < dataset.count; start += WINDOW) {
    const size = Math.min(WINDOW, dataset.count - start);
    const examples = readMany(
      dataset,
      Array.from({ length: size }, (_, i) => start + i),
    );
    total = addSums(total, await trainer.measureLoss(examples));
  }
  return toResult(trainer, total);
}

const isSampled = (step: number, totalSteps: number): boolean =>
  step % Math.ceil(totalSteps / SAMPLED_STEPS) === 0;

async function validateSample(trainer: Trainer, dataset: Dataset, step: number): Promise<ValidationResult> {
  const size = Math.min(SAMPLE, dataset.count);
  const places = Array.from({ length: size }, (_, i) => (step - 1) * size + i);
  return toResult(trainer, await trainer.measureLoss(readMany(dataset, places)));
}
