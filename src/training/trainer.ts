// The arithmetic of a run: compiled programs, the trained numbers and their optimizer. It takes steps and measures losses;
// which examples, when to stop and what to save are the loop's.
import { type Example, rowLengths } from '../data/example-form.ts';
import type { Engine, Executable, HostArrays } from '../engine/program.ts';
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
  type TrainedModel,
} from './programs.ts';
import { viewsOf } from './state.ts';

export interface LossSums {
  readonly loss: number;
  /** The loss of a batch is loss / weight. */
  readonly weight: number;
  /** Its measure is score / count. */
  readonly score: number;
  readonly count: number;
}

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
  /** The objective's reference of every example, under these parameters. Examples come in lots that are packed together. */
  measureReference(lots: Iterable<readonly Example[]>, parameters: Float32Array): Promise<number[]>;
  /** Bytes that a micro-batch of this shape takes at its peak. Its program stays until `keepShapes`. */
  measureMemory(shape: MicroBatchShape): Promise<number>;
  /** Closes the programs of all other shapes. */
  keepShapes(shapes: readonly MicroBatchShape[]): Promise<void>;
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

export const NO_LOSS: LossSums = { loss: 0, weight: 0, score: 0, count: 0 };

export const addSums = (a: LossSums, b: LossSums): LossSums => ({
  loss: a.loss + b.loss,
  weight: a.weight + b.weight,
  score: a.score + b.score,
  count: a.count + b.count,
});

const sumsOf = ({ lossSum, score, count, weight = count }: HostArrays): LossSums => ({
  loss: lossSum![0]!,
  weight: weight![0]!,
  score: score![0]!,
  count: count![0]!,
});

/** Programs by shape, compiled when first asked for. */
function openPrograms(engine: Engine, program: (shape: MicroBatchShape) => Parameters<Engine['compile']>[0]) {
  const compiled = new Map<string, Promise<Executable>>();
  const keyOf = ({ rows, length }: MicroBatchShape) => `${rows}x${length}`;
  return {
    get(shape: MicroBatchShape): Promise<Executable> {
      const found = compiled.get(keyOf(shape)) ?? engine.compile(program(shape));
      compiled.set(keyOf(shape), found);
      return found;
    },
    async close(kept: readonly MicroBatchShape[] = []) {
      for (const [key, program] of compiled) {
        if (kept.some(shape => keyOf(shape) === key)) continue;
        await (await program).close();
        compiled.delete(key);
      }
    },
  };
}

export async function openTrainer(options: TrainerOptions): Promise<Trainer> {
  const { engine, trained, state, between } = options;
  const { objective } = trained;
  const gradientPrograms = openPrograms(engine, shape => gradientProgram(trained, shape));
  const lossPrograms = openPrograms(engine, shape => lossProgram(trained, shape));
  const cut = (examples: readonly Example[]) =>
    planBatch(rowLengths(objective.form, examples), options.shapes(), options.costs);
  const optimizer: Optimizer = await openAdamW(engine, trained.state);
  const parameters = viewsOf(state.parameters, trained.state, PARAMETER);
  // Gradient sums go back and forth between two arrays: a program's outputs must not overlap its inputs.
  const sums = [new Float32Array(trained.state.size), new Float32Array(trained.state.size)] as const;
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
      sums[0].fill(0);
      for (const [index, part] of plan.entries()) {
        await between('step');
        const fed = {
          ...objective.pack(part, examples),
          ...dropoutMasks(trained, part.shape, { seed, step, index }),
        };
        total = addSums(total, await accumulate(part.shape, fed, side));
        side = side === 0 ? 1 : 0;
      }
      await between('step');
      const gradientNorm = await optimizer.update(state, sums[side], {
        step,
        weight: total.weight,
        ...optimization,
      });
      return { ...total, gradientNorm };
    },

    async measureLoss(examples, other) {
      const views = other ? viewsOf(other, trained.state, PARAMETER) : parameters;
      let total = NO_LOSS;
      for (const part of cut(examples)) {
        await between('loss');
        const program = await lossPrograms.get(part.shape);
        total = addSums(total, sumsOf(await program.run({ ...objective.pack(part, examples), ...views })));
      }
      return total;
    },

    async measureReference(lots, other) {
      const programs = openPrograms(engine, shape => referenceProgram(trained, shape));
      const views = viewsOf(other, trained.state, PARAMETER);
      const all: number[] = [];
      for (const examples of lots) {
        const first = all.length;
        for (const part of cut(examples)) {
          await between('loss');
          const program = await programs.get(part.shape);
          const { reference } = await program.run({ ...objective.pack(part, examples), ...views });
          for (const { place, start } of startsIn(part, examples)) all[first + place] = reference![start]!;
        }
      }
      await programs.close();
      return all;
    },

    async measureMemory(shape) {
      const peak = await measurePeakBytes(async () => {
        const fed = {
          ...objective.pack({ shape, rows: [] }, []),
          ...dropoutMasks(trained, shape, { seed: 0, step: 0, index: 0 }),
        };
        await accumulate(shape, fed, 0);
      });
      return peak;
    },

    keepShapes: kept => gradientPrograms.close(kept),

    async close() {
      await gradientPrograms.close();
      await lossPrograms.close();
      await optimizer.close();
    },
  };
}
