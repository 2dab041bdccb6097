// Estimates what a run takes on given workers: its layout, its memory, its arithmetic. Memory is measured here, on the
// CPU, as the run itself measures it. How fast a worker is, is not known here.
import { programFlops } from '../engine/flops.ts';
import type { Engine } from '../engine/program.ts';
import { requireGenerative } from '../models/registry.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { rehearse } from '../serving/rehearsal.ts';
import { TrainingFailure } from './failure.ts';
import { type CostModel, planBatch } from './layout.ts';
import {
  type LayoutCircumstances,
  measureRows,
  microBatchBytes,
  type RowMemory,
  refuseTooLargeState,
  STATE_BYTES,
  sampleBatches,
  shapesFor,
} from './layout-choice.ts';
import { measurePeakBytes, memoryToUse, ownBytes } from './memory.ts';
import { type Plan, totalSteps } from './order.ts';
import { adapterOf } from './policy.ts';
import { examplesOfSteps, firstParameters, type Lengths, trainedModel } from './prepare.ts';
import { gradientProgram, type MicroBatchShape, type TrainedModel } from './programs.ts';
import type { ResolvedHyperparameters, TrainSpec } from './protocol.ts';
import type { Start } from './start.ts';
import { zeros } from './state.ts';
import { openTrainer } from './trainer.ts';

/** A worker. */
export interface Machine {
  readonly id: string;
  readonly device: string;
  /** Free memory of the machine when no run is active. */
  readonly freeBytes: number;
  /** Memory that runs may use; null: not limited. */
  readonly budgetBytes: number | null;
}

export interface RunEstimate {
  readonly machine: string;
  readonly shapes: readonly MicroBatchShape[];
  /** Peak memory of the trainer, evaluation included, without mapped pages of the model's files. */
  readonly memoryBytes: number;
  /** Floating-point operations of the matrix products of all steps; null where the model generates the examples. */
  readonly flops: number | null;
}

/** Why the run does not fit that machine, as its error would say. */
export interface Impossible {
  readonly machine: string;
  readonly failure: string;
}

export interface EstimateInputs extends Start, Lengths {
  readonly spec: Pick<
    TrainSpec,
    'seed' | 'modelDirectory' | 'validationFile' | 'cacheDirectory' | 'workDirectory'
  >;
  readonly engine: Engine;
  readonly hyperparameters: ResolvedHyperparameters;
  readonly machines: readonly Machine[];
}

/** Throws TrainingFailure if this machine lacks the memory to measure a row of the longest example. */
export async function estimateRun(inputs: EstimateInputs): Promise<(RunEstimate | Impossible)[]> {
  const { hyperparameters, model, training } = inputs;
  const costs: CostModel = { hiddenSize: model.shape.hiddenSize };
  const trained = await trainedModel(inputs, hyperparameters, () => undefined);
  refuseTooLargeState(trained.state.size, memoryToUse(null));
  const plan: Plan = {
    examples: training.lengths.length,
    batchSize: hyperparameters.batch_size,
    epochs: hyperparameters.n_epochs,
    seed: inputs.spec.seed,
  };
  const on = { plan, ...examplesOfSteps(inputs), maxPositions: model.shape.maxPositions, costs };
  const { restingBytes, rows, evaluationBytes } = await measure(inputs, trained, on);
  const count = countFlops(trained, on);
  return inputs.machines.map(machine =>
    attempt(machine, () => {
      const shapes = shapesOn(machine, trained, on, rows);
      const micro = shapes.reduce((sum, shape) => sum + microBatchBytes(rows, shape), 0);
      const memoryBytes = Math.round(Math.max(restingBytes + micro, evaluationBytes));
      const flops = inputs.objective.rollouts ? null : count(shapes);
      return { machine: machine.id, shapes, memoryBytes, flops };
    }),
  );
}

function attempt({ id }: Machine, work: () => RunEstimate): RunEstimate | Impossible {
  try {
    return work();
  } catch (error) {
    if (error instanceof TrainingFailure) return { machine: id, failure: error.message };
    throw error;
  }
}

type Circumstances = Omit<LayoutCircumstances, 'availableBytes'>;

interface Measured {
  /** What the trainer holds between micro-batches. */
  readonly restingBytes: number;
  readonly rows: RowMemory;
  /** What it holds during evaluation; 0 if that is less than a step. */
  readonly evaluationBytes: number;
}

async function measure(inputs: EstimateInputs, trained: TrainedModel, on: Circumstances): Promise<Measured> {
  const { engine, spec, adapter } = inputs;
  const { tuning, state } = trained;
  const parameters = await firstParameters({ spec, adapter }, trained);
  const trainer = await openTrainer({
    engine,
    trained,
    state: { parameters, m: zeros(state.size), v: zeros(state.size) },
    costs: on.costs,
    shapes: () => [],
    between: async () => undefined,
  });
  const resting = ownBytes();
  const rows = await measureRows({ ...on, trainer, availableBytes: memoryToUse(null) });
  const loaded = tuning.kind === 'full' ? null : adapterOf(trained, tuning, parameters);
  const restingBytes = resting + (await measureRollouts(inputs, loaded));
  await trainer.close();
  return { restingBytes, rows, evaluationBytes: await measureEvaluation(inputs, loaded) };
}

/** Memory for generating answers during training; the policy stays open beside the trainer. */
async function measureRollouts(
  { engine, model, objective: { rollouts }, training, hyperparameters }: EstimateInputs,
  adapter: LoadedAdapter | null,
): Promise<number> {
  if (!rollouts) return 0;
  const longest = Array.from(training.lengths)
    .sort((a, b) => b - a)
    .slice(0, hyperparameters.batch_size);
  const prompts = longest.flatMap(length => new Array<number>(rollouts.group).fill(length));
  const asked = { prompts, answer: rollouts.answerLength, scored: null, adapters: [adapter] };
  return measurePeakBytes(async () => {
    const close = await rehearse(engine, requireGenerative(model), asked);
    await close();
  });
}

/** Total memory of the trainer during the evaluation after training. */
async function measureEvaluation(
  { engine, spec: { modelDirectory, validationFile }, objective }: EstimateInputs,
  adapter: LoadedAdapter | null,
): Promise<number> {
  if (!validationFile || !objective.rehearse) return 0;
  const resting = ownBytes();
  const rehearsal = { engine, modelDirectory, validationFile, adapter };
  return resting + (await measurePeakBytes(async () => objective.rehearse?.(rehearsal)));
}

/** The shapes that the run would choose there. The state is allocated before the remaining memory is looked at. */
function shapesOn(
  { device, freeBytes, budgetBytes }: Machine,
  { state }: TrainedModel,
  on: Circumstances,
  rows: RowMemory,
): MicroBatchShape[] {
  refuseTooLargeState(state.size, memoryToUse(budgetBytes, freeBytes));
  const availableBytes = memoryToUse(budgetBytes, Math.max(0, freeBytes - state.size * STATE_BYTES));
  return shapesFor({ ...on, availableBytes }, device === 'cpu' ? rows : null);
}

/** Estimated from batches of the first epoch. */
function countFlops(trained: TrainedModel, on: Circumstances) {
  const ofRow = new Map<number, number>();
  const flopsOf = ({ rows, length }: MicroBatchShape): number => {
    const known = ofRow.get(length) ?? programFlops(gradientProgram(trained, { rows: 1, length }));
    ofRow.set(length, known);
    return rows * known;
  };
  const batches = sampleBatches(on);
  return (shapes: readonly MicroBatchShape[]): number => {
    const parts = batches.flatMap(lengths => planBatch(lengths, shapes, on.costs));
    const sampled = parts.reduce((sum, { shape }) => sum + flopsOf(shape), 0);
    return (sampled / batches.length) * totalSteps(on.plan);
  };
}
