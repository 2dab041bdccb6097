// Programs of a run, compiled when first asked for and kept by what they are made for. Which programs there are is the trainer's matter.
import type { Engine, Executable, Program } from '../engine/program.ts';

export interface Compiled<Key> {
  get(key: Key): Promise<Executable>;
  /** Closes all, or all but these. */
  close(kept?: readonly Key[]): Promise<void>;
}

export function openCompiled<Key>(engine: Engine, program: (key: Key) => Program): Compiled<Key> {
  const compiled = new Map<string, Promise<Executable>>();
  return {
    get(key) {
      const name = JSON.stringify(key);
      const found = compiled.get(name) ?? engine.compile(program(key));
      compiled.set(name, found);
      return found;
    },
    async close(kept = []) {
      const names = kept.map(key => JSON.stringify(key));
      for (const [name, program] of compiled) {
        if (names.includes(name)) continue;
        await (await program).close();
        compiled.delete(name);
      }
    },
  };
}
