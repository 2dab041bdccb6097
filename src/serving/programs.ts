// LRU cache of one model's compiled programs by shape. The callers choose the shapes.
import type { Engine, Executable, Program } from '../engine/program.ts';
import type { GenerativeModel } from '../models/registry.ts';
import { type StepShape, stepProgram } from './step.ts';

export interface ProgramCache<Shape> {
  /** The result stays open at least until the next `get`. */
  get(shape: Shape): Promise<Executable>;
  close(): Promise<void>;
}

export type Programs = ProgramCache<StepShape>;

const keyOf = ({ rows, length, cache, logits, source, stack }: StepShape): string =>
  [
    rows,
    length,
    cache,
    logits,
    source?.length,
    source?.read,
    stack?.slots,
    stack?.rank,
    ...(stack?.layers ?? []),
  ].join();

export const openPrograms = (engine: Engine, model: GenerativeModel, limit: number): Programs =>
  cachePrograms({ engine, keyOf, build: shape => stepProgram(model, shape), limit });

export interface ProgramCacheOptions<Shape> {
  readonly engine: Engine;
  /** Equal for shapes of the same program. */
  keyOf(shape: Shape): string;
  build(shape: Shape): Program;
  /** Maximum number of cached programs. */
  readonly limit: number;
}

/** Not for concurrent use: one `get` and the runs of its program at a time. */
export function cachePrograms<Shape>(options: ProgramCacheOptions<Shape>): ProgramCache<Shape> {
  const { engine, keyOf, build, limit } = options;
  // A Map keeps the order of insertion: the first is the least recently used.
  const compiled = new Map<string, Executable>();
  return {
    async get(shape) {
      const key = keyOf(shape);
      const executable = compiled.get(key) ?? (await engine.compile(build(shape)));
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
