// The arithmetic of a run: compiled programs, the trained parameters and their optimizer. It takes steps and measures
// losses; the loop decides on which examples, when to stop and what to save.
import { type Example, rowLengths, tokensOf } from '../data/example-form.ts';
import type { Engine, HostArrays } from '../engine/program.ts';
import { type Comparison, openComparison } from './comparison.ts';
import { type Compiled, openCompiled } from './compiled.ts';
import { type CostModel, type MicroBatchPlan, planBatch } from './layout.ts';
import { measurePeakBytes } from './memory.ts';
import { dropoutMasks, startsIn } from './micro-batch.ts';
import type { OptimizerState } from './optimizer.ts';
import {
  gradientProgram,
  lossProgram,
  type MicroBatchShape,
  referenceProgram,
  SLOPES,
  type TrainedModel,
} from './programs.ts';
import { addSums, type LossSums, NO_LOSS, sumsOf } from './sums.ts';
import { openTrainedState, type TrainedState } from './trained-state.ts';

export interface StepOptions {
  /** Counts from 1. */
  readonly step: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
  /** Seed of dropout. */
  readonly seed: number;
}

export interface StepResult extends LossSums {
  readonly gradientNorm: number;
  /** Floating-point operations of the micro-batches' matrix products; 0 where the engine does not count them. */
  readonly flops: number;
}

/** Awaited before every program run; throws to stop. A stopped step leaves the state unchanged. */
export type Between = (during: 'step' | 'loss') => Promise<void>;

export interface Trainer {
  readonly trained: TrainedModel;
  /** The current state, in arrays that the next read or step may overwrite. */
  readState(): Promise<OptimizerState>;
  readParameters(): Promise<Float32Array>;
  /** A whole optimizer step over a batch. If it throws, the state is unchanged. */
  takeStep(
    plan: readonly MicroBatchPlan[],
    examples: readonly Example[],
    options: StepOptions,
  ): Promise<StepResult>;
  /** Sums over examples, without training on them. */
  measureLoss(examples: readonly Example[]): Promise<LossSums>;
  /** Opens the objective's reference with these parameters. */
  openReference(parameters: Float32Array): Promise<Reference>;
  /** Peak bytes of a micro-batch of this shape. Its program stays compiled until `keepShapes`. */
  measureMemory(shape: MicroBatchShape): Promise<number>;
  /** Closes the programs of all other shapes. */
  keepShapes(shapes: readonly MicroBatchShape[]): Promise<void>;
  close(): Promise<void>;
}

/** The model at the start of a run. */
export interface Reference {
  /** For every example, the values of all its tokens. */
  measure(examples: readonly Example[]): Promise<Float32Array[]>;
  close(): Promise<void>;
}

export interface TrainerOptions {
  readonly engine: Engine;
  readonly trained: TrainedModel;
  /** The state to start from; the trainer takes ownership of its arrays. */
  readonly state: OptimizerState;
  readonly costs: CostModel;
  /** May change until the first step: memory is measured before shapes are chosen. */
  shapes(): readonly MicroBatchShape[];
  readonly between: Between;
}

/** What the functions of a trainer share. */
interface Parts extends Omit<TrainerOptions, 'state'> {
  readonly state: TrainedState;
  readonly gradientPrograms: Compiled<MicroBatchShape>;
  readonly lossPrograms: Compiled<MicroBatchShape>;
  /** Of a contrastive objective: with dropout, for steps, and without, for losses. */
  readonly comparison?: Comparison;
  readonly measuring?: Comparison;
}

async function openParts(options: TrainerOptions): Promise<Parts> {
  const { engine, trained, between } = options;
  const { batch } = trained.objective;
  const comparisonFor = (during: 'step' | 'loss') =>
    batch &&
    openComparison({ engine, trained, batch, training: during === 'step', between: () => between(during) });
  return {
    ...options,
    gradientPrograms: openCompiled(engine, shape => gradientProgram(trained, shape)),
    lossPrograms: openCompiled(engine, shape => lossProgram(trained, shape)),
    comparison: comparisonFor('step'),
    measuring: comparisonFor('loss'),
    state: await openTrainedState(engine, trained.state, options.state),
  };
}

const cut = (parts: Parts, examples: readonly Example[]): MicroBatchPlan[] =>
  planBatch(rowLengths(parts.trained.objective.form, examples), parts.shapes(), parts.costs);

interface Accumulated {
  readonly sums: LossSums;
  readonly flops: number;
}

/** Adds the gradients of a micro-batch to the sums. */
async function accumulate(parts: Parts, shape: MicroBatchShape, fed: HostArrays): Promise<Accumulated> {
  const program = await parts.gradientPrograms.get(shape);
  return { sums: sumsOf(await parts.state.addGradients(program, fed)), flops: program.flops ?? 0 };
}

async function takeStep(
  parts: Parts,
  plan: readonly MicroBatchPlan[],
  examples: readonly Example[],
  { step, seed, ...optimization }: StepOptions,
): Promise<StepResult> {
  const { trained, state, between } = parts;
  const fedWith = (part: MicroBatchPlan, index: number): HostArrays => ({
    ...trained.objective.pack(part, examples),
    ...dropoutMasks(trained, part.shape, { seed, step, index }),
  });
  state.startSums();
  const compared = await parts.comparison?.compare(plan, examples, (part, index) => ({
    ...fedWith(part, index),
    ...state.parameters(),
  }));
  let [total, flops] = [NO_LOSS, 0];
  for (const [index, part] of plan.entries()) {
    await between('step');
    const slopes = compared && { [SLOPES]: compared.slopes[index]! };
    const made = await accumulate(parts, part.shape, { ...fedWith(part, index), ...slopes });
    total = addSums(total, made.sums);
    flops += made.flops;
  }
  if (compared) total = compared.sums;
  await between('step');
  const gradientNorm = await state.update({ step, weight: total.weight, ...optimization });
  return { ...total, gradientNorm, flops };
}

async function measureLoss(parts: Parts, examples: readonly Example[]): Promise<LossSums> {
  const { objective } = parts.trained;
  const parameters = parts.state.parameters();
  const fedWith = (part: MicroBatchPlan) => ({ ...objective.pack(part, examples), ...parameters });
  const plan = cut(parts, examples);
  if (parts.measuring) return (await parts.measuring.compare(plan, examples, fedWith)).sums;
  let total = NO_LOSS;
  for (const part of plan) {
    await parts.between('loss');
    const program = await parts.lossPrograms.get(part.shape);
    total = addSums(total, sumsOf(await program.run(fedWith(part))));
  }
  return total;
}

async function openReference(parts: Parts, parameters: Float32Array): Promise<Reference> {
  const { engine, trained, state, between } = parts;
  const programs = openCompiled(engine, (shape: MicroBatchShape) => referenceProgram(trained, shape));
  const placed = await state.place(parameters);
  return {
    async measure(examples) {
      const all = new Array<Float32Array>(examples.length);
      for (const part of cut(parts, examples)) {
        await between('step');
        const program = await programs.get(part.shape);
        const fed = { ...trained.objective.pack(part, examples), ...placed.arrays };
        const { reference } = await program.run(fed);
        for (const { place, start } of startsIn(part, examples))
          all[place] = (reference as Float32Array).slice(start, start + tokensOf(examples[place]!));
      }
      return all;
    },
    async close() {
      await programs.close();
      placed.free();
    },
  };
}

/** On a micro-batch that is all padding. */
const measureMemory = (parts: Parts, shape: MicroBatchShape): Promise<number> =>
  measurePeakBytes(async () => {
    const { trained, comparison, state } = parts;
    const fed = {
      ...trained.objective.pack({ shape, rows: [] }, []),
      ...dropoutMasks(trained, shape, { seed: 0, step: 0, index: 0 }),
    };
    await comparison?.vectorsOf(shape, { ...fed, ...state.parameters() });
    await accumulate(parts, shape, fed);
  });

export async function openTrainer(options: TrainerOptions): Promise<Trainer> {
  const parts = await openParts(options);
  const { trained, state, gradientPrograms, lossPrograms, comparison, measuring } = parts;
  return {
    trained,
    readState: state.read,
    readParameters: state.readParameters,
    takeStep: (plan, examples, step) => takeStep(parts, plan, examples, step),
    measureLoss: examples => measureLoss(parts, examples),
    openReference: parameters => openReference(parts, parameters),
    measureMemory: shape => measureMemory(parts, shape),
    async keepShapes(kept) {
      await gradientPrograms.close(kept);
      await comparison?.keepShapes(kept);
    },
    async close() {
      await gradientPrograms.close();
      await lossPrograms.close();
      await comparison?.close();
      await measuring?.close();
      await state.close();
    },
  };
}
