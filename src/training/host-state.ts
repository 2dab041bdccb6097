// The training state in host memory: flat arrays that programs read and write parts of.
import type { Engine } from '../engine/program.ts';
import { type OptimizerState, openAdamW } from './optimizer.ts';
import { AFTER, BEFORE, PARAMETER } from './programs.ts';
import { type StateLayout, viewsOf, zeros } from './state.ts';
import type { TrainedState } from './trained-state.ts';

export async function openHostState(
  engine: Engine,
  layout: StateLayout,
  state: OptimizerState,
): Promise<TrainedState> {
  const optimizer = await openAdamW(engine, layout);
  const parameters = viewsOf(state.parameters, layout, PARAMETER);
  // Gradient sums alternate between two arrays: a program's outputs must not overlap its inputs. They are filled now,
  // so that they are resident before the memory of micro-batches is measured.
  const sums = [zeros(layout.size), zeros(layout.size)] as const;
  const before = sums.map(flat => viewsOf(flat, layout, BEFORE));
  const after = sums.map(flat => viewsOf(flat, layout, AFTER));
  let side: 0 | 1 = 0;
  return {
    parameters: () => parameters,
    startSums() {
      side = 0;
      sums[0].fill(0);
    },
    async addGradients(program, fed) {
      const other = side === 0 ? 1 : 0;
      const produced = await program.run({ ...fed, ...parameters, ...before[side]! }, after[other]!);
      side = other;
      return produced;
    },
    update: step => optimizer.update(state, sums[side], step),
    place: async flat => ({ arrays: viewsOf(flat, layout, PARAMETER), free: () => undefined }),
    read: async () => state,
    readParameters: async () => state.parameters,
    close: () => optimizer.close(),
  };
}
