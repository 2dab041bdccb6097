// A cache of compiled programs, by what each is made for. It does not know which programs there are.
import type { Engine, Executable, Program } from '../engine/program.ts';

export interface Compiled<Key> {
  /** Compiles it the first time. */
  get(key: Key): Promise<Executable>;
  /** Closes all programs but these. */
  close(kept?: readonly Key[]): Promise<void>;
}

export function openCompiled<Key>(engine: Engine, program: (key: Key) => Program): Compiled<Key> {
  const compiled = new Map<string, Promise<Executable>>();
  return {
    get(key) {
      const name = JSON.stringify(key);
      const known = compiled.get(name);
      if (known) return known;
      const made = engine.compile(program(key));
      compiled.set(name, made);
      // A program that fails to compile is forgotten, so that `close` has nothing to wait for.
      made.catch(() => compiled.delete(name));
      return made;
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
