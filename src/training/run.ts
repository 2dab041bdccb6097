// A whole training run in one process: reads what it is given, trains, evaluates, writes results. It speaks only through
// `emit` and hears only `stop`; it knows no process, queue or database.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Dataset, DatasetError, tokenizeFile } from '../data/dataset.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { openEngine } from '../engine/engine.ts';
import type { Engine } from '../engine/program.ts';
import { evaluateByGeneration } from '../evaluation/generate.ts';
import { type Adapter, readAdapter } from '../formats/peft.ts';
import { moduleNames, selectLayers } from '../models/lora.ts';
import { ModelError } from '../models/model-error.ts';
import { type Model, openModel } from '../models/registry.ts';
import { bestModel, type Progress, readProgress, readState, removePartials } from './checkpoint.ts';
import { TrainingFailure } from './failure.ts';
import { resolveHyperparameters, resolveMaxLength, type StartingAdapter } from './hyperparameters.ts';
import { type Layout, layoutFromRecord, layoutToRecord } from './layout.ts';
import { findShapes } from './layout-choice.ts';
import { type Emit, type Run, saveResume, trainToEnd } from './loop.ts';
import { makeManifest } from './manifest.ts';
import type { OptimizerState } from './optimizer.ts';
import { type Plan, totalSteps } from './order.ts';
import type { MicroBatchShape, TrainedModel } from './programs.ts';
import type { TrainerCommand, TrainSpec } from './protocol.ts';
import { resultsCsv } from './results.ts';
import { firstValues, startFromAdapter, stateLayoutOf, type Tuning, tuningOf } from './trainable.ts';
import { type Between, openTrainer, type Trainer } from './trainer.ts';

/** Aborted to stop a run; its reason is the TrainerCommand. */
export type Stop = AbortSignal;

/** Thrown by `between`; what was asked is on the signal. */
class Stopped extends Error {}

const EVALUATED_EXAMPLES = 100;

/** Emits `failed`, `stopped` or `finished` last, and resolves. Rejects for bugs, which is for the caller to say. */
export async function runTraining(spec: TrainSpec, emit: Emit, stop: Stop): Promise<void> {
  const reached: Reached = { progress: null };
  try {
    await runToEnd(spec, emit, stop, reached);
  } catch (error) {
    if (isStop(error, stop)) {
      const { type: reason } = stop.reason as TrainerCommand;
      await emit({ type: 'stopped', reason, step: reached.progress?.step ?? 0 });
      return;
    }
    const failure = asFailure(error);
    if (!failure) throw error;
    await emit({ type: 'failed', code: failure.code, param: failure.param, message: failure.message });
  }
}

/** How far a run was when it ended; null before it was prepared. */
interface Reached {
  progress: Progress | null;
}

/** Streams and other libraries throw the signal's reason, or an AbortError of their own. */
const isStop = (error: unknown, stop: Stop): boolean =>
  stop.aborted &&
  (error instanceof Stopped ||
    error === stop.reason ||
    (error instanceof Error && error.name === 'AbortError'));

/** What a user can mend; null for everything else. */
function asFailure(error: unknown): TrainingFailure | null {
  if (error instanceof TrainingFailure) return error;
  if (error instanceof ModelError) return new TrainingFailure('invalid_model', 'model', error.message);
  return null;
}

async function runToEnd(spec: TrainSpec, emit: Emit, stop: Stop, reached: Reached): Promise<void> {
  await mkdir(spec.workDirectory, { recursive: true });
  await removePartials(spec.workDirectory);
  const resumed = spec.resumeDirectory ? await readProgress(spec.resumeDirectory) : null;
  const earlier = resumed?.layout ?? spec.layout ?? null;
  const started = await openRunEngine(spec, earlier && layoutFromRecord(earlier));
  const model = await openModel(spec.modelDirectory);
  const data = await readData(spec, model, emit, stop);
  try {
    const run = await prepare({ spec, emit, stop, model, resumed, ...started, ...data });
    reached.progress = run.progress;
    await trainToEnd(run)
      .catch(async error => {
        if (error instanceof Stopped && (stop.reason as TrainerCommand).type === 'pause')
          await saveResume(run);
        throw error;
      })
      .finally(() => run.trainer.close());
    await finish(spec, run, started.engine, stop);
  } finally {
    data.training.close();
    data.validation?.close();
  }
}

interface StartedEngine {
  readonly engine: Engine;
  readonly threads: number;
  /** Of an earlier attempt, to be laid out alike. */
  readonly earlier: Layout | null;
}

/** The same number of threads gives the same bits. */
async function openRunEngine(spec: TrainSpec, earlier: Layout | null): Promise<StartedEngine> {
  const threads = earlier?.threads ?? (spec.threads || availableParallelism());
  const engine = await openEngine({ engine: spec.engine, device: spec.device, threads });
  return { engine, threads, earlier };
}

interface Data {
  readonly adapter: Adapter | null;
  readonly training: Dataset;
  readonly validation: Dataset | null;
}

async function readData(spec: TrainSpec, model: Model, emit: Emit, stop: Stop): Promise<Data> {
  const adapter = spec.adapterDirectory ? await readAdapter(spec.adapterDirectory, model.linearLayers) : null;
  const maxLength = resolveMaxLength(spec.hyperparameters, model);
  const tokenizer = await loadTokenizer(spec.modelDirectory);
  const cacheDirectory = join(spec.workDirectory, 'data');
  await mkdir(cacheDirectory, { recursive: true });
  const read = (file: string, kind: 'training' | 'validation') =>
    tokenizeFile({ file, tokenizer, maxLength, cacheDirectory, signal: stop })
      .then(dataset => refuseEmpty(dataset, kind))
      .catch(error => refuseData(error, kind));
  await emit({ type: 'progress', message: 'Tokenizing' });
  const training = await read(spec.trainingFile, 'training');
  const validation = spec.validationFile ? await read(spec.validationFile, 'validation') : null;
  return { adapter, training, validation };
}

function refuseEmpty(dataset: Dataset, kind: 'training' | 'validation'): Dataset {
  if (dataset.count > 0) return dataset;
  dataset.close();
  const cut = dataset.dropped > 0 ? ` within ${dataset.maxLength} tokens` : '';
  const message = `The ${kind} file has nothing to train on: no example has an assistant message with weight 1${cut}.`;
  throw new TrainingFailure(`invalid_${kind}_file`, `${kind}_file`, message);
}

function refuseData(error: unknown, kind: 'training' | 'validation'): never {
  if (!(error instanceof DatasetError)) throw error;
  const message = `The job failed due to an invalid ${kind} file. ${error.message}`;
  throw new TrainingFailure(`invalid_${kind}_file`, `${kind}_file`, message);
}

interface Preparation extends Data, StartedEngine {
  readonly spec: TrainSpec;
  readonly emit: Emit;
  readonly stop: Stop;
  readonly model: Model;
  readonly resumed: Progress | null;
}

/** An adapter's own shape, as hyperparameters say it. */
function shapeOf(adapter: Adapter, model: Model): StartingAdapter {
  const adapted = model.linearLayers.filter(({ name }) => adapter.layers[name]);
  const names = moduleNames(adapted);
  const exact = selectLayers(model.linearLayers, names).length === adapted.length;
  return {
    rank: adapter.rank,
    alpha: adapter.scale * adapter.rank,
    targetModules: exact ? names : adapted.map(({ name }) => name),
  };
}

async function startState(p: Preparation, trained: TrainedModel): Promise<OptimizerState> {
  const { spec, resumed, adapter, model } = p;
  const { tuning, state } = trained;
  if (spec.resumeDirectory && resumed)
    return readState(spec.resumeDirectory, state, spec.workDirectory, resumed);
  const parameters =
    adapter && tuning.kind === 'lora'
      ? startFromAdapter(adapter, tuning, state)
      : await firstValues(model, tuning, state, spec.seed);
  return { parameters, m: new Float32Array(state.size), v: new Float32Array(state.size) };
}

/** Lets messages in, and stops where that leaves a state to go on from: pausing waits for a step and its losses. */
const betweenRuns =
  (stop: Stop): Between =>
  async during => {
    await setImmediate();
    const command = stop.aborted ? (stop.reason as TrainerCommand) : null;
    if (command && (command.type === 'cancel' || during === 'step')) throw new Stopped();
  };

async function prepare(p: Preparation): Promise<Run> {
  const { spec, model, training, validation, resumed, engine } = p;
  refuseOtherData(p);
  const hyperparameters =
    resumed?.hyperparameters ??
    resolveHyperparameters(spec.hyperparameters, {
      model,
      examples: training.count,
      start: p.adapter && shapeOf(p.adapter, model),
    });
  const tuning: Tuning = tuningOf(model, hyperparameters);
  const trained = { model, tuning, state: stateLayoutOf(model, tuning) };
  const costs = { hiddenSize: model.shape.hiddenSize };
  const plan: Plan = {
    examples: training.count,
    batchSize: hyperparameters.batch_size,
    epochs: hyperparameters.n_epochs,
    seed: resumed?.seed ?? spec.seed,
  };
  let shapes: readonly MicroBatchShape[] = p.earlier?.shapes ?? [];
  const trainer = await openTrainer({
    engine,
    trained,
    state: await startState(p, trained),
    costs,
    shapes: () => shapes,
    between: betweenRuns(p.stop),
  });
  if (shapes.length === 0) shapes = await measureShapes(p, trainer, plan);
  await trainer.keepShapes(shapes);
  const layout = layoutToRecord({ shapes, engine: engine.name, device: engine.device, threads: p.threads });
  const progress: Progress = resumed ?? {
    seed: spec.seed,
    hyperparameters,
    layout,
    trainingSha256: training.sha256,
    validationSha256: validation?.sha256 ?? null,
    step: 0,
    trainedTokens: 0,
    history: [],
    best: null,
  };
  const { workDirectory, checkpointSeconds } = spec;
  const run: Run = {
    workDirectory,
    modelName: spec.modelName ?? basename(spec.modelDirectory),
    checkpointSeconds,
    plan,
    shapes,
    costs,
    trainer,
    training,
    validation,
    progress,
    emit: p.emit,
  };
  await announce(run);
  return run;
}

function measureShapes(p: Preparation, trainer: Trainer, plan: Plan): Promise<MicroBatchShape[]> {
  return findShapes({
    trainer,
    device: p.engine.device,
    memoryBudgetBytes: p.spec.memoryBudgetBytes,
    plan,
    trainingLengths: p.training.lengths,
    validationLengths: p.validation?.lengths ?? [],
    maxPositions: p.model.shape.maxPositions,
    costs: { hiddenSize: p.model.shape.hiddenSize },
  });
}

function refuseOtherData({ resumed, training, validation }: Preparation): void {
  if (!resumed) return;
  if (resumed.trainingSha256 !== training.sha256 || resumed.validationSha256 !== (validation?.sha256 ?? null))
    throw new Error('the checkpoint is of a run on other data');
}

async function announce({ emit, plan, progress, training, validation }: Run): Promise<void> {
  await emit({
    type: 'prepared',
    hyperparameters: progress.hyperparameters,
    totalSteps: totalSteps(plan),
    examples: training.count,
    validationExamples: validation?.count ?? 0,
    truncatedExamples: training.truncated + (validation?.truncated ?? 0),
    trainedTokens: training.trainedTokens * plan.epochs,
    layout: progress.layout,
  });
}

async function evaluate(spec: TrainSpec, run: Run, engine: Engine, stop: Stop) {
  if (!spec.validationFile) return null;
  const { tuning } = run.trainer.trained;
  const report = await evaluateByGeneration({
    engine,
    modelDirectory: spec.modelDirectory,
    fineTuned: {
      kind: tuning.kind === 'full' ? 'full' : 'adapter',
      directory: bestModel(spec.workDirectory, run.progress),
    },
    validationFile: spec.validationFile,
    maxExamples: EVALUATED_EXAMPLES,
    signal: stop,
  });
  return report && { ...report, validation: run.progress.best?.validation ?? null };
}

async function finish(spec: TrainSpec, run: Run, engine: Engine, stop: Stop): Promise<void> {
  const { progress, emit } = run;
  await emit({ type: 'progress', message: 'Evaluating' });
  const report = await evaluate(spec, run, engine, stop);
  if (stop.aborted) throw new Stopped();
  const write = (name: string, text: string) => writeFile(join(spec.workDirectory, name), text);
  await write('results.csv', resultsCsv(progress.history));
  if (report) {
    await write('evaluation.json', `${JSON.stringify(report, null, 2)}\n`);
    await emit({ type: 'evaluation', report: report as unknown as Record<string, unknown> });
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
