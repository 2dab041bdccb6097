// The arithmetic of a run: compiled programs, the trained numbers and their optimizer. It takes steps and measures losses;
// which examples, when to stop and what to save are the loop's.
import { type Example, rowLengths, tokensOf } from '../data/example-form.ts';
import type { Engine, HostArrays } from '../engine/program.ts';
import { openComparison } from './comparison.ts';
import { openCompiled } from './compiled.ts';
import { type CostModel, type MicroBatchPlan, planBatch } from './layout.ts';
import { measurePeakBytes } from './memory.ts';
import { dropoutMasks, startsIn } from './micro-batch.ts';
import { type Optimizer, type OptimizerState, openAdamW } from './optimizer.ts';
import {
  AFTER,
  BEFORE,
  gradientProgram,
  lossProgram,
  type MicroBatchShape,
  PARAMETER,
  referenceProgram,
  SLOPES,
  type TrainedModel,
} from './programs.ts';
import { viewsOf, zeros } from './state.ts';
import { addSums, type LossSums, NO_LOSS, sumsOf } from './sums.ts';

export interface StepOptions {
  /** Counts from 1. */
  readonly step: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
  /** Of dropout. */
  readonly seed: number;
}

export interface StepResult extends LossSums {
  readonly gradientNorm: number;
  /** Of the matrix products of the micro-batches; 0 where the engine does not count them. */
  readonly flops: number;
}

/** Awaited before every run of a program; throws to stop. A step that is stopped leaves the state as it was before it. */
export type Between = (during: 'step' | 'loss') => Promise<void>;

export interface Trainer {
  readonly trained: TrainedModel;
  /** Changed by every step. */
  readonly state: OptimizerState;
  /** A whole optimizer step over a batch. When it throws, the state is as before. */
  takeStep(
    plan: readonly MicroBatchPlan[],
    examples: readonly Example[],
    options: StepOptions,
  ): Promise<StepResult>;
  /** Sums over examples, without training on them. */
  measureLoss(examples: readonly Example[], parameters?: Float32Array): Promise<LossSums>;
  /** The objective's reference under these parameters. */
  openReference(parameters: Float32Array): Reference;
  /** Bytes that a micro-batch of this shape takes at its peak. Its program stays until `keepShapes`. */
  measureMemory(shape: MicroBatchShape): Promise<number>;
  /** Closes the programs of all other shapes. */
  keepShapes(shapes: readonly MicroBatchShape[]): Promise<void>;
  close(): Promise<void>;
}

/** What the model says as it is at the start of a run. */
export interface Reference {
  /** For every example the numbers of all of its places; the examples are packed together. */
  measure(examples: readonly Example[]): Promise<Float32Array[]>;
  close(): Promise<void>;
}

export interface TrainerOptions {
  readonly engine: Engine;
  readonly trained: TrainedModel;
  readonly state: OptimizerState;
  readonly costs: CostModel;
  /** May change until the first step: measuring memory comes before choosing. */
  shapes(): readonly MicroBatchShape[];
  readonly between: Between;
}

export async function openTrainer(options: TrainerOptions): Promise<Trainer> {
  const { engine, trained, state, between } = options;
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
  const optimizer: Optimizer = await openAdamW(engine, trained.state);
  const parameters = viewsOf(state.parameters, trained.state, PARAMETER);
  // Gradient sums go back and forth between two arrays: a program's outputs must not overlap its inputs.
  // Filled, so that they lie in memory before that of micro-batches is measured.
  const sums = [zeros(trained.state.size), zeros(trained.state.size)] as const;
  const before = sums.map(flat => viewsOf(flat, trained.state, BEFORE));
  const after = sums.map(flat => viewsOf(flat, trained.state, AFTER));

  async function accumulate(shape: MicroBatchShape, fed: HostArrays, from: 0 | 1): Promise<LossSums> {
    const program = await gradientPrograms.get(shape);
    return sumsOf(await program.run({ ...fed, ...parameters, ...before[from]! }, after[1 - from]!));
  }

  return {
    trained,
    state,

    async takeStep(plan, examples, { step, seed, ...optimization }) {
      let total = NO_LOSS;
      let side: 0 | 1 = 0;
      let flops = 0;
      sums[0].fill(0);
      const fedWith = (part: MicroBatchPlan, index: number): HostArrays => ({
        ...objective.pack(part, examples),
        ...dropoutMasks(trained, part.shape, { seed, step, index }),
      });
      const compared = await comparison?.compare(plan, examples, (part, index) => ({
        ...fedWith(part, index),
        ...parameters,
      }));
      for (const [index, part] of plan.entries()) {
        await between('step');
        const fed = { ...fedWith(part, index), ...(compared && { [SLOPES]: compared.slopes[index]! }) };
        total = addSums(total, await accumulate(part.shape, fed, side));
        flops += (await gradientPrograms.get(part.shape)).flops ?? 0;
        side = side === 0 ? 1 : 0;
      }
      if (compared) total = compared.sums;
      await between('step');
      const gradientNorm = await optimizer.update(state, sums[side], {
        step,
        weight: total.weight,
        ...optimization,
      });
      return { ...total, gradientNorm, flops };
    },

    async measureLoss(examples, other) {
      const views = other ? viewsOf(other, trained.state, PARAMETER) : parameters;
      const parts = cut(examples);
      if (measuring) {
        const fedWith = (part: MicroBatchPlan) => ({ ...objective.pack(part, examples), ...views });
        return (await measuring.compare(parts, examples, fedWith)).sums;
      }
      let total = NO_LOSS;
      for (const part of parts) {
        await between('loss');
        const program = await lossPrograms.get(part.shape);
        total = addSums(total, sumsOf(await program.run({ ...objective.pack(part, examples), ...views })));
      }
      return total;
    },

    openReference(other) {
      const programs = openCompiled(engine, (shape: MicroBatchShape) => referenceProgram(trained, shape));
      const views = viewsOf(other, trained.state, PARAMETER);
      return {
        async measure(examples) {
          const all = new Array<Float32Array>(examples.length);
          for (const part of cut(examples)) {
            await between('step');
            const program = await programs.get(part.shape);
            const { reference } = await program.run({ ...objective.pack(part, examples), ...views });
            for (const { place, start } of startsIn(part, examples))
              all[place] = (reference as Float32Array).slice(start, start + tokensOf(examples[place]!));
          }
          return all;
        },
        close: () => programs.close(),
      };
    },

    async measureMemory(shape) {
      const peak = await measurePeakBytes(async () => {
        const fed = {
          ...objective.pack({ shape, rows: [] }, []),
          ...dropoutMasks(trained, shape, { seed: 0, step: 0, index: 0 }),
        };
        await comparison?.vectorsOf(shape, { ...fed, ...parameters });
        await accumulate(shape, fed, 0);
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
      await optimizer.close();
    },
  };
}
