// Compiled steps of one model, by shape; the least recently used are closed. It does not choose the shapes.
import type { Engine, Executable } from '../engine/program.ts';
import type { CausalModel } from '../models/registry.ts';
import { type StepShape, stepProgram } from './step.ts';

export interface Programs {
  /** What it returns is closed no earlier than a later `get`. */
  get(shape: StepShape): Promise<Executable>;
  close(): Promise<void>;
}

const keyOf = ({ rows, length, cache, logits, stack }: StepShape): string =>
  [rows, length, cache, logits, stack?.slots, stack?.rank, ...(stack?.layers ?? [])].join();

/** Not for concurrent use: one `get` and the runs of its program at a time. */
export function openPrograms(engine: Engine, model: CausalModel, limit: number): Programs {
  // A Map keeps the order of insertion: the first is the least recently used.
  const compiled = new Map<string, Executable>();
  return {
    async get(shape) {
      const key = keyOf(shape);
      const executable = compiled.get(key) ?? (await engine.compile(stepProgram(model, shape)));
      compiled.delete(key);
      compiled.set(key, executable);
      const [oldest] = compiled;
      if (compiled.size > limit && oldest) {
        compiled.delete(oldest[0]);
        await oldest[1].close();
      }
      return executable;
    },
    async close() {
      const executables = [...compiled.values()];
      compiled.clear();
      for (const executable of executables) await executable.close();
    },
  };
}
