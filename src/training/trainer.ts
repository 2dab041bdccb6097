// The arithmetic of a run: compiled programs, the trained parameters and their optimizer. It takes steps and measures
// losses; the loop decides on which examples, when to stop and what to save.
import { type Example, rowLengths, tokensOf } from '../data/example-form.ts';
import type { Engine, HostArrays } from '../engine/program.ts';
import { openComparison } from './comparison.ts';
import { openCompiled } from './compiled.ts';
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
import { openTrainedState } from './trained-state.ts';

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

export async function openTrainer(options: TrainerOptions): Promise<Trainer> {
  const { engine, trained, between } = options;
  const { objective } = trained;
  const gradientPrograms = openCompiled(engine, (shape: MicroBatchShape) => gradientProgram(trained, shape));
  const lossPrograms = openCompiled(engine, (shape: MicroBatchShape) => lossProgram(trained, shape));
  const { batch } = objective;
  const comparisonFor = (during: 'step' | 'loss') =>
    batch &&
    openComparison({ engine, trained, batch, training: during === 'step', between: () => between(during) });
  const [comparison, measuring] = [comparisonFor('step'), comparisonFor('loss')];
  const cut = (examples: readonly Example[]) =>
    planBatch(rowLengths(objective.form, examples), options.shapes(), options.costs);
  const state = await openTrainedState(engine, trained.state, options.state);

  async function accumulate(shape: MicroBatchShape, fed: HostArrays): Promise<LossSums> {
    return sumsOf(await state.addGradients(await gradientPrograms.get(shape), fed));
  }

  return {
    trained,
    readState: state.read,
    readParameters: state.readParameters,

    async takeStep(plan, examples, { step, seed, ...optimization }) {
      let total = NO_LOSS;
      let flops = 0;
      state.startSums();
      const fedWith = (part: MicroBatchPlan, index: number): HostArrays => ({
        ...objective.pack(part, examples),
        ...dropoutMasks(trained, part.shape, { seed, step, index }),
      });
      const compared = await comparison?.compare(plan, examples, (part, index) => ({
        ...fedWith(part, index),
        ...state.parameters(),
      }));
      for (const [index, part] of plan.entries()) {
        await between('step');
        const fed = { ...fedWith(part, index), ...(compared && { [SLOPES]: compared.slopes[index]! }) };
        total = addSums(total, await accumulate(part.shape, fed));
        flops += (await gradientPrograms.get(part.shape)).flops ?? 0;
      }
      if (compared) total = compared.sums;
      await between('step');
      const gradientNorm = await state.update({ step, weight: total.weight, ...optimization });
      return { ...total, gradientNorm, flops };
    },

    async measureLoss(examples) {
      const parameters = state.parameters();
      const parts = cut(examples);
      if (measuring) {
        const fedWith = (part: MicroBatchPlan) => ({ ...objective.pack(part, examples), ...parameters });
        return (await measuring.compare(parts, examples, fedWith)).sums;
      }
      let total = NO_LOSS;
      for (const part of parts) {
        await between('loss');
        const program = await lossPrograms.get(part.shape);
        total = addSums(
          total,
          sumsOf(await program.run({ ...objective.pack(part, examples), ...parameters })),
        );
      }
      return total;
    },

    async openReference(parameters) {
      const programs = openCompiled(engine, (shape: MicroBatchShape) => referenceProgram(trained, shape));
      const placed = await state.place(parameters);
      return {
        async measure(examples) {
          const all = new Array<Float32Array>(examples.length);
          for (const part of cut(examples)) {
            await between('step');
            const program = await programs.get(part.shape);
            const { reference } = await program.run({ ...objective.pack(part, examples), ...placed.arrays });
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
    },

    async measureMemory(shape) {
      const peak = await measurePeakBytes(async () => {
        const fed = {
          ...objective.pack({ shape, rows: [] }, []),
          ...dropoutMasks(trained, shape, { seed: 0, step: 0, index: 0 }),
        };
        await comparison?.vectorsOf(shape, { ...fed, ...state.parameters() });
        await accumulate(shape, fed);
      });
      return peak;
    },

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
