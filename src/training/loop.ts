// The training loop: steps, validation, checkpoints, until the last step or a command. It owns time; the arithmetic is
// in trainer.ts, and what comes before and after in run.ts.
import type { Dataset } from '../data/dataset.ts';
import { rowLengths, trainedTokensOf } from '../data/example-form.ts';
import {
  foldersIn,
  isBetter,
  keepBest,
  type Progress,
  type ValidationResult,
  writeModel,
  writeResume,
} from './checkpoint.ts';
import { TrainingFailure } from './failure.ts';
import { type CostModel, planBatch } from './layout.ts';
import { batchesOf, epochOf, isEpochEnd, type Plan, totalSteps } from './order.ts';
import type { MicroBatchShape } from './programs.ts';
import type { StepMetrics, TrainerEvent } from './protocol.ts';
import type { Drawn, Rollouts } from './rollouts.ts';
import { learningRateAt } from './schedule.ts';
import type { StepResult, Trainer } from './trainer.ts';
import type { Validation } from './validation.ts';

export type Emit = (event: TrainerEvent) => void | Promise<void>;

export interface Run {
  readonly workDirectory: string;
  /** Name of the base model, written into adapters. */
  readonly modelName: string;
  readonly checkpointSeconds: number;
  readonly plan: Plan;
  readonly shapes: readonly MicroBatchShape[];
  readonly costs: CostModel;
  readonly trainer: Trainer;
  readonly training: Dataset;
  readonly validation: Validation | null;
  /** Set if the examples of a step are the model's own answers. */
  readonly rollouts: Rollouts | null;
  /** Updated by every step. */
  readonly progress: Progress;
  readonly emit: Emit;
}

interface TakenStep extends StepResult {
  readonly trainedTokens: number;
  /** Metrics other than the loss and the objective's. */
  readonly metrics: Readonly<Record<string, number>>;
}

async function takeStep(
  run: Run,
  examplesOf: (step: number) => Int32Array,
  step: number,
): Promise<TakenStep> {
  const { hyperparameters } = run.progress;
  const { examples, metrics } = await drawExamples(run, step, examplesOf(step));
  const plan = planBatch(rowLengths(run.trainer.trained.objective.form, examples), run.shapes, run.costs);
  const result = await run.trainer.takeStep(plan, examples, {
    step,
    learningRate: learningRateAt(step, totalSteps(run.plan), hyperparameters),
    weightDecay: hyperparameters.weight_decay,
    maxGradNorm: hyperparameters.max_grad_norm,
    seed: run.progress.seed,
  });
  refuseDivergence([result.loss, result.gradientNorm], run, step);
  const trainedTokens = examples.reduce((sum, example) => sum + trainedTokensOf(example), 0);
  return { ...result, trainedTokens, metrics };
}

async function drawExamples({ rollouts, training }: Run, step: number, places: Int32Array): Promise<Drawn> {
  if (rollouts) return rollouts.draw(step, places);
  return { examples: Array.from(places, index => training.read(index)), metrics: {} };
}

function refuseDivergence(found: readonly number[], { progress }: Run, step: number): void {
  if (found.every(Number.isFinite)) return;
  const { learning_rate: rate, learning_rate_multiplier: multiplier } = progress.hyperparameters;
  throw new TrainingFailure(
    'training_diverged',
    '.hyperparameters.learning_rate_multiplier',
    `The loss is no longer a number at step ${step}. Lower learning_rate_multiplier (it is ${multiplier}, ` +
      `which makes a learning rate of ${rate}).`,
  );
}

interface Measured {
  readonly metrics: StepMetrics;
  /** On the whole validation file, at the end of an epoch. */
  readonly validation: ValidationResult | null;
}

async function measure(run: Run, step: number, result: TakenStep): Promise<Measured> {
  const { trainer, validation, plan } = run;
  const metrics: StepMetrics = {
    step,
    train_loss: result.loss / result.weight,
    [`train_${trainer.trained.objective.measure}`]: result.score / result.count,
    ...result.metrics,
  };
  if (validation?.isDue(step, totalSteps(plan)))
    Object.assign(metrics, prefixed('valid_', await validation.sample(step)));
  const full = validation && isEpochEnd(step, plan) ? await validation.all() : null;
  Object.assign(metrics, prefixed('full_valid_', full ?? {}));
  refuseDivergence([metrics.valid_loss ?? 0, metrics.full_valid_loss ?? 0], run, step);
  return { metrics, validation: full };
}

const prefixed = (prefix: string, result: Readonly<Record<string, number>>) =>
  Object.fromEntries(Object.entries(result).map(([name, value]) => [prefix + name, value]));

/** Nothing is saved before the first step: a run resumed from there starts again, with the same result. */
export async function saveResume(run: Run): Promise<void> {
  const { progress, workDirectory, trainer, plan } = run;
  if (progress.step === 0) return;
  const directory = await writeResume(workDirectory, await trainer.readState(), progress);
  const { step } = progress;
  const metrics = progress.history.at(-1)!;
  await run.emit({
    type: 'checkpoint',
    kind: 'resume',
    step,
    epoch: epochOf(step, plan),
    directory,
    metrics,
  });
}

/** Saves the model of an epoch, and keeps the best so far by validation, or the last one without a validation file. */
async function saveModel(run: Run, { metrics, validation }: Measured): Promise<void> {
  const { progress, workDirectory, trainer, plan } = run;
  const { step } = metrics;
  const directory = foldersIn(workDirectory).model(step);
  await writeModel(directory, trainer.trained, await trainer.readParameters(), run.modelName);
  const former = progress.best?.validation;
  if (!former || !validation || isBetter(validation, former)) {
    await keepBest(workDirectory, step, directory);
    progress.best = { step, validation };
  }
  await run.emit({ type: 'checkpoint', kind: 'model', step, epoch: epochOf(step, plan), directory, metrics });
}

const seconds = () => performance.now() / 1000;

/** Where this process started, to estimate the remaining time. */
interface Start {
  readonly step: number;
  readonly at: number;
}

/** Takes one step, measures it and emits it. */
async function advance(run: Run, examplesOf: (step: number) => Int32Array, start: Start): Promise<Measured> {
  const { plan, progress } = run;
  const step = progress.step + 1;
  const total = totalSteps(plan);
  const stepStarted = seconds();
  const result = await takeStep(run, examplesOf, step);
  progress.step = step;
  progress.trainedTokens += result.trainedTokens;
  const measured = await measure(run, step, result);
  const { metrics } = measured;
  progress.history.push(metrics);
  const pace = (seconds() - start.at) / (step - start.step);
  await run.emit({
    type: 'step',
    metrics,
    totalSteps: total,
    epoch: epochOf(step, plan),
    learningRate: learningRateAt(step, total, progress.hyperparameters),
    gradientNorm: result.gradientNorm,
    trainedTokens: progress.trainedTokens,
    seconds: seconds() - stepStarted,
    flops: result.flops,
    remainingSeconds: pace * (total - step),
  });
  return measured;
}

/** Trains from `progress.step` to the end. Throws what `between` throws; the state is then that of `progress.step`. */
export async function trainToEnd(run: Run): Promise<void> {
  const { plan, progress } = run;
  const examplesOf = batchesOf(plan);
  const start: Start = { step: progress.step, at: seconds() };
  let savedAt = start.at;
  while (progress.step < totalSteps(plan)) {
    const measured = await advance(run, examplesOf, start);
    const epochEnds = isEpochEnd(progress.step, plan);
    if (epochEnds) await saveModel(run, measured);
    if (epochEnds || seconds() - savedAt >= run.checkpointSeconds) {
      await saveResume(run);
      savedAt = seconds();
    }
  }
}
