// A whole training run in one process: prepares, trains, evaluates, writes results. It communicates through `emit` and
// `stop` only, and knows no process, queue or database.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../engine/program.ts';
import { ModelError } from '../models/model-error.ts';
import { bestModel, type Progress } from './checkpoint.ts';
import { jobParam, TrainingFailure } from './failure.ts';
import { type Emit, type Run, saveResume, trainToEnd } from './loop.ts';
import { makeManifest } from './manifest.ts';
import { totalSteps } from './order.ts';
import { copiesDirectory, prepare, type Surroundings } from './prepare.ts';
import type { GradeAnswers, TrainerCommand, TrainSpec } from './protocol.ts';
import { resultsCsv } from './results.ts';
import type { Between } from './trainer.ts';

/** Aborted to stop a run; the reason is the TrainerCommand. */
export type Stop = AbortSignal;

/** Thrown by `between`; the command is the signal's reason. */
class Stopped extends Error {}

/** How far a run was when it ended; null before it was prepared. */
interface Reached {
  progress: Progress | null;
}

const nobodyGrades: GradeAnswers = () => Promise.reject(new Error('nobody grades answers here'));

/** Resolves after emitting `failed`, `stopped` or `finished` last. Rejects for bugs, which the caller reports. */
export async function runTraining(
  spec: TrainSpec,
  emit: Emit,
  stop: Stop,
  grade: GradeAnswers = nobodyGrades,
): Promise<void> {
  const reached: Reached = { progress: null };
  try {
    await runToEnd(spec, { emit, grade, stop, between: betweenRuns(stop) }, reached);
  } catch (error) {
    if (isStop(error, stop)) {
      const { type: reason } = stop.reason as TrainerCommand;
      await emit({ type: 'stopped', reason, step: reached.progress?.step ?? 0 });
      return;
    }
    const failure = asFailure(error);
    if (!failure) throw error;
    const { code, param, message } = failure;
    await emit({ type: 'failed', code, param: jobParam(param, spec.method.type), message });
  }
}

/** Streams and other libraries throw the signal's reason or an AbortError of their own. */
const isStop = (error: unknown, stop: Stop): boolean =>
  stop.aborted &&
  (error instanceof Stopped ||
    error === stop.reason ||
    (error instanceof Error && error.name === 'AbortError'));

/** Failures that a user can fix; null for everything else. */
function asFailure(error: unknown): TrainingFailure | null {
  if (error instanceof TrainingFailure) return error;
  if (error instanceof ModelError) return new TrainingFailure('invalid_model', 'model', error.message);
  return null;
}

/** Lets messages in, and throws to stop where the run can resume from: a pause waits for the step and its losses. */
const betweenRuns =
  (stop: Stop): Between =>
  async during => {
    await setImmediate();
    const command = stop.aborted ? (stop.reason as TrainerCommand) : null;
    if (command && (command.type === 'cancel' || during === 'step')) throw new Stopped();
  };

async function runToEnd(spec: TrainSpec, around: Surroundings, reached: Reached): Promise<void> {
  const { stop } = around;
  const { run, engine, close } = await prepare(spec, around);
  try {
    reached.progress = run.progress;
    await announce(run);
    await trainToEnd(run);
  } catch (error) {
    const paused = error instanceof Stopped && (stop.reason as TrainerCommand).type === 'pause';
    if (paused) await saveResume(run);
    throw error;
  } finally {
    await close();
  }
  await finish(spec, run, engine, around);
}

async function announce({ emit, plan, progress, training, validation }: Run): Promise<void> {
  await emit({
    type: 'prepared',
    hyperparameters: progress.hyperparameters,
    totalSteps: totalSteps(plan),
    examples: training.count,
    validationExamples: validation?.count ?? 0,
    truncatedExamples: training.truncated + (validation?.truncated ?? 0),
    droppedExamples: training.dropped + (validation?.dropped ?? 0),
    equalAnswers: { training: training.equalAnswers, validation: validation?.equalAnswers ?? null },
    trainedTokens: training.trainedTokens * plan.epochs,
    layout: progress.layout,
  });
}

async function evaluate(spec: TrainSpec, run: Run, engine: Engine, { grade, stop }: Surroundings) {
  if (!spec.validationFile) return null;
  const { tuning, objective } = run.trainer.trained;
  const report = await objective.evaluate({
    engine,
    modelDirectory: spec.modelDirectory,
    adapterDirectory: spec.adapterDirectory,
    fineTuned: {
      kind: tuning.kind === 'full' ? 'full' : 'adapter',
      directory: bestModel(spec.workDirectory, run.progress),
    },
    validationFile: spec.validationFile,
    maxLength: run.progress.hyperparameters.max_length,
    signal: stop,
    seed: spec.seed,
    grade,
    cacheDirectory: copiesDirectory(spec),
  });
  return report && { ...report, validation: run.progress.best?.validation ?? null };
}

async function finish(spec: TrainSpec, run: Run, engine: Engine, around: Surroundings): Promise<void> {
  const { progress, emit } = run;
  await emit({ type: 'progress', message: 'Evaluating' });
  const report = await evaluate(spec, run, engine, around);
  if (around.stop.aborted) throw new Stopped();
  const write = (name: string, text: string) => writeFile(join(spec.workDirectory, name), text);
  await write('results.csv', resultsCsv(progress.history, spec.method.type));
  if (report) {
    await write('evaluation.json', `${JSON.stringify(report, null, 2)}\n`);
    await emit({ type: 'evaluation', report });
  }
  const manifest = await makeManifest({ ...spec, progress });
  await rm(join(spec.workDirectory, 'data'), { recursive: true, force: true });
  await emit({
    type: 'finished',
    bestStep: progress.best!.step,
    trainedTokens: progress.trainedTokens,
    manifest,
  });
}
