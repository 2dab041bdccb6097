// Prepares a run from its spec: engine, model, data, hyperparameters, layout, state. It takes no step.
import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { type Dataset, type DatasetCounts, DatasetError, tokenizeFile } from '../data/dataset.ts';
import { readPromptLines } from '../data/prompts.ts';
import { openEngine } from '../engine/engine.ts';
import type { Engine } from '../engine/program.ts';
import type { Adapter } from '../formats/peft.ts';
import { moduleNames, selectLayers } from '../models/lora.ts';
import { quantizeWeights } from '../models/quantized-weights.ts';
import type { Model } from '../models/registry.ts';
import { type Progress, readProgress, readState, removePartials } from './checkpoint.ts';
import { TrainingFailure } from './failure.ts';
import { resolveHyperparameters, resolveMaxLength, type StartingAdapter } from './hyperparameters.ts';
import { type CostModel, type Layout, layoutFromRecord, layoutToRecord } from './layout.ts';
import { findShapes, refuseTooLargeState } from './layout-choice.ts';
import type { Emit, Run } from './loop.ts';
import { memoryToUse } from './memory.ts';
import type { OptimizerState } from './optimizer.ts';
import type { Plan } from './order.ts';
import { openPolicy } from './policy.ts';
import type { MicroBatchShape, TrainedModel } from './programs.ts';
import type { GradeAnswers, ResolvedHyperparameters, TrainSpec } from './protocol.ts';
import { withReference } from './reference.ts';
import { openRollouts } from './rollouts.ts';
import { openStart, type Start } from './start.ts';
import { zeros } from './state.ts';
import { firstValues, stateLayoutOf, tuningOf } from './trainable.ts';
import { type Between, openTrainer, type Trainer } from './trainer.ts';
import { validationByLoss } from './validation.ts';

export interface Prepared {
  readonly run: Run;
  readonly engine: Engine;
  close(): Promise<void>;
}

/** What is read before anything is decided. */
interface Inputs extends Start {
  readonly spec: TrainSpec;
  readonly engine: Engine;
  readonly threads: number;
  readonly training: Dataset;
  readonly validation: Dataset | null;
  readonly resumed: Progress | null;
  /** Layout of an earlier attempt, to be kept. */
  readonly earlier: Layout | null;
}

/** How a run communicates. */
export interface Surroundings {
  readonly emit: Emit;
  readonly grade: GradeAnswers;
  readonly between: Between;
  readonly stop: AbortSignal;
}

export async function prepare(spec: TrainSpec, around: Surroundings): Promise<Prepared> {
  await mkdir(spec.workDirectory, { recursive: true });
  await removePartials(spec.workDirectory);
  const inputs = await readInputs(spec, around);
  const { engine, training, validation } = inputs;
  const closeData = () => {
    training.close();
    validation?.close();
  };
  try {
    const run = await setUp(inputs, around);
    return {
      run,
      engine,
      async close() {
        closeData();
        await run.rollouts?.close();
        await run.trainer.close();
      },
    };
  } catch (error) {
    closeData();
    throw error;
  }
}

async function readInputs(spec: TrainSpec, { emit, stop }: Surroundings): Promise<Inputs> {
  const resumed = spec.resumeDirectory ? await readProgress(spec.resumeDirectory) : null;
  const layout = resumed?.layout ?? spec.layout;
  const earlier = layout ? layoutFromRecord(layout) : null;
  // Results depend on the number of threads.
  const threads = earlier?.threads ?? (spec.threads || availableParallelism());
  const { engine: name, device, precision } = spec;
  const engine = await openEngine({ engine: name, device, precision, threads });
  const start = await openStart(spec);
  await emit({ type: 'progress', message: 'Tokenizing' });
  const data = await readData(spec, start, stop);
  return { spec, engine, threads, ...start, resumed, earlier, ...data };
}

// ---- data

async function readData(spec: TrainSpec, { model, tokenizer, objective }: Start, signal: AbortSignal) {
  const maxLength = resolveMaxLength(spec.hyperparameters, model);
  const { form } = objective;
  const cacheDirectory = join(spec.workDirectory, 'data');
  await mkdir(cacheDirectory, { recursive: true });
  const read = (file: string, kind: Kind) =>
    tokenizeFile({ file, form, tokenizer, maxLength, cacheDirectory, signal })
      .then(dataset => refuseEmpty(dataset, kind))
      .catch(error => refuseData(error, kind));
  return {
    training: await read(spec.trainingFile, 'training'),
    validation: spec.validationFile ? await read(spec.validationFile, 'validation') : null,
  };
}

type Kind = 'training' | 'validation';

function refuseEmpty(dataset: Dataset, kind: Kind): Dataset {
  if (dataset.count > 0) return dataset;
  dataset.close();
  throw emptyFailure(dataset, dataset.maxLength, kind);
}

function refuseData(error: unknown, kind: Kind): never {
  if (!(error instanceof DatasetError)) throw error;
  throw dataFailure(error, kind);
}

/** The failure of a file without anything to train on. */
export function emptyFailure({ dropped }: DatasetCounts, maxLength: number, kind: Kind): TrainingFailure {
  const cut = dropped > 0 ? ` within ${maxLength} tokens` : '';
  const message = `The ${kind} file has nothing to train on: no example has an assistant message with weight 1${cut}.`;
  return new TrainingFailure(`invalid_${kind}_file`, `${kind}_file`, message);
}

/** The failure of a line that cannot be tokenized. */
export function dataFailure(error: { message: string }, kind: Kind): TrainingFailure {
  const message = `The job failed due to an invalid ${kind} file. ${error.message}`;
  return new TrainingFailure(`invalid_${kind}_file`, `${kind}_file`, message);
}

// ---- decisions

async function setUp(inputs: Inputs, around: Surroundings): Promise<Run> {
  const { emit, between } = around;
  const { spec, model, training, engine, threads } = inputs;
  const progress = inputs.resumed ? goOn(inputs.resumed, inputs) : begin(inputs);
  const plan = planOf(progress, training);
  const costs: CostModel = { hiddenSize: model.shape.hiddenSize };
  let shapes: readonly MicroBatchShape[] = inputs.earlier?.shapes ?? [];
  const trained = await trainedModel(inputs, progress.hyperparameters, emit);
  refuseTooLargeState(trained.state.size, memoryToUse(spec.memoryBudgetBytes));
  const state = await startState(inputs, trained, progress);
  const trainer = await openTrainer({ engine, trained, state, costs, shapes: () => shapes, between });
  if (shapes.length === 0) shapes = await measureShapes(inputs, trainer, plan, costs);
  await trainer.keepShapes(shapes);
  progress.layout = layoutToRecord({ shapes, engine: engine.name, device: engine.device, threads });
  const examples = inputs.objective.rollouts
    ? await answeredData(inputs, trainer, around)
    : await comparedData(inputs, trained, trainer, emit);
  return {
    workDirectory: spec.workDirectory,
    modelName: spec.modelName ?? basename(spec.modelDirectory),
    checkpointSeconds: spec.checkpointSeconds,
    plan,
    shapes,
    costs,
    trainer,
    ...examples,
    progress,
    emit,
  };
}

type RunData = Pick<Run, 'training' | 'validation' | 'rollouts'>;

/** The datasets, with the references that the objective's loss needs, if any. */
async function comparedData(
  inputs: Inputs,
  trained: TrainedModel,
  trainer: Trainer,
  emit: Emit,
): Promise<RunData> {
  const { training, validation, objective } = inputs;
  const data = (own: Dataset, other: Dataset | null): RunData => ({
    training: own,
    validation: other && validationByLoss(trainer, other),
    rollouts: null,
  });
  if (!objective.reference) return data(training, validation);
  await emit({ type: 'progress', message: 'Measuring the model as it is before training' });
  const start = await firstParameters(inputs, trained);
  return data(
    await withReference(trainer, training, start),
    validation && (await withReference(trainer, validation, start)),
  );
}

/** The prompts, with the rollouts that answer them. */
async function answeredData(
  inputs: Inputs,
  trainer: Trainer,
  { emit, grade, between, stop }: Surroundings,
): Promise<RunData> {
  const { spec, training, validation } = inputs;
  const { trained, readParameters } = trainer;
  const settings = inputs.objective.rollouts!;
  const policy = await openPolicy({
    ...inputs,
    ...settings,
    trained,
    readParameters,
    cacheDirectory: copiesDirectory(spec),
  });
  const reference = await trainer.openReference(await firstParameters(inputs, trained));
  const prompts = async (dataset: Dataset, file: string) => ({ dataset, lines: await readPromptLines(file) });
  const rollouts = openRollouts({
    settings,
    seed: spec.seed,
    policy,
    reference,
    training: await prompts(training, spec.trainingFile),
    validation: validation && (await prompts(validation, spec.validationFile!)),
    grade,
    emit,
    between,
    stop,
  });
  return { training, validation: rollouts.validation, rollouts };
}

function begin({ spec, model, adapter, objective, training, validation }: Inputs): Progress {
  const hyperparameters = resolveHyperparameters(spec.hyperparameters, {
    model,
    examples: training.count,
    start: adapter && shapeOf(adapter, model),
    rate: objective.rate,
    batchSize: objective.batchSize,
  });
  return {
    seed: spec.seed,
    hyperparameters: { ...hyperparameters, ...objective.hyperparameters },
    layout: {},
    trainingSha256: training.sha256,
    validationSha256: validation?.sha256 ?? null,
    step: 0,
    trainedTokens: 0,
    history: [],
    best: null,
  };
}

function goOn(resumed: Progress, { training, validation }: Inputs): Progress {
  const same =
    resumed.trainingSha256 === training.sha256 && resumed.validationSha256 === (validation?.sha256 ?? null);
  if (!same) throw new Error('the checkpoint is of a run on other data');
  return resumed;
}

/** An adapter's shape as hyperparameters. */
export function shapeOf(adapter: Adapter, model: Model): StartingAdapter {
  const adapted = model.linearLayers.filter(({ name }) => adapter.layers[name]);
  const names = moduleNames(adapted);
  const exact = selectLayers(model.linearLayers, names).length === adapted.length;
  return {
    rank: adapter.rank,
    alpha: adapter.scale * adapter.rank,
    targetModules: exact ? names : adapted.map(({ name }) => name),
  };
}

const planOf = ({ hyperparameters, seed }: Progress, training: Dataset): Plan => ({
  examples: training.count,
  batchSize: hyperparameters.batch_size,
  epochs: hyperparameters.n_epochs,
  seed,
});

export async function trainedModel(
  inputs: Pick<Inputs, 'model' | 'objective'> & { spec: CopiedTo },
  hyperparameters: ResolvedHyperparameters,
  emit: Emit,
): Promise<TrainedModel> {
  const { objective } = inputs;
  const model = await quantizedModel(inputs, hyperparameters, emit);
  const tuning = tuningOf(model, hyperparameters);
  return {
    model,
    tuning,
    objective,
    state: stateLayoutOf(model, tuning, objective),
    gradientCheckpointing: hyperparameters.gradient_checkpointing,
  };
}

type CopiedTo = Pick<TrainSpec, 'cacheDirectory' | 'workDirectory'>;

/** Where copies of the model are cached. */
export const copiesDirectory = ({ cacheDirectory, workDirectory }: CopiedTo): string =>
  cacheDirectory ?? workDirectory;

/** Progress written before this hyperparameter existed lacks it. */
async function quantizedModel(
  { model, spec }: { model: Model; spec: CopiedTo },
  { quantization = 'none' }: ResolvedHyperparameters,
  emit: Emit,
): Promise<Model> {
  if (quantization === 'none') return model;
  await emit({ type: 'progress', message: `Reading the base model as ${quantization}` });
  return quantizeWeights(model, quantization, join(copiesDirectory(spec), 'quantized'));
}

async function startState(
  { spec, adapter, resumed }: Inputs,
  trained: TrainedModel,
  progress: Progress,
): Promise<OptimizerState> {
  const { state } = trained;
  if (spec.resumeDirectory && resumed)
    return readState(spec.resumeDirectory, state, spec.workDirectory, progress);
  const parameters = await firstParameters({ spec, adapter }, trained);
  return { parameters, m: zeros(state.size), v: zeros(state.size) };
}

export const firstParameters = (
  { spec, adapter }: { spec: Pick<TrainSpec, 'seed'>; adapter: Adapter | null },
  trained: TrainedModel,
): Promise<Float32Array> => firstValues({ ...trained, adapter, seed: spec.seed }, trained.state);

export interface Lengths extends Pick<Start, 'objective'> {
  readonly training: Pick<Dataset, 'lengths'>;
  readonly validation: Pick<Dataset, 'lengths'> | null;
}

/** Lengths of the examples of steps: a prompt counts once per answer, each of the full answer length. */
export function examplesOfSteps({ training, validation, objective: { rollouts } }: Lengths) {
  const grown = rollouts?.answerLength ?? 0;
  return {
    copies: rollouts?.group ?? 1,
    trainingLengths: training.lengths.map(length => length + grown),
    // Answers to validation prompts are graded, not trained on.
    validationLengths: rollouts ? [] : (validation?.lengths ?? []),
  };
}

const measureShapes = (inputs: Inputs, trainer: Trainer, plan: Plan, costs: CostModel) =>
  findShapes({
    trainer,
    device: inputs.engine.device,
    availableBytes: memoryToUse(inputs.spec.memoryBudgetBytes),
    plan,
    ...examplesOfSteps(inputs),
    maxPositions: inputs.model.shape.maxPositions,
    costs,
  });
