// The cache of compiled programs: each is compiled once, closed once, and one that does not compile is forgotten.
import { expect, test } from 'vitest';
import type { Engine, Executable, Program } from '../../src/engine/program.ts';
import { openCompiled } from '../../src/training/compiled.ts';

const programFor = (name: string): Program => ({ name, inputs: {}, weights: {}, run: () => ({}) });

/** Notes what is compiled and closed; programs called `broken` do not compile the first time. */
function noting() {
  const notes: string[] = [];
  let broken = true;
  const engine: Engine = {
    name: 'noting',
    device: 'none',
    async compile({ name }): Promise<Executable> {
      notes.push(`compile ${name}`);
      if (name === 'broken' && broken) {
        broken = false;
        throw new Error('out of memory');
      }
      const close = async () => void notes.push(`close ${name}`);
      return { outputs: {}, run: async () => ({}), close };
    },
  };
  return { notes, engine };
}

test('a program is compiled once, and closed unless it is kept', async () => {
  const { notes, engine } = noting();
  const programs = openCompiled(engine, programFor);
  expect(await programs.get('a')).toBe(await programs.get('a'));
  await programs.get('b');
  await programs.close(['b']);
  await programs.close();
  expect(notes).toEqual(['compile a', 'compile b', 'close a', 'close b']);
});

test('a program that does not compile is told of once, hinders no close, and is compiled anew', async () => {
  const { notes, engine } = noting();
  const programs = openCompiled(engine, programFor);
  await programs.get('a');
  await expect(programs.get('broken')).rejects.toThrow('out of memory');
  await programs.get('broken');
  await programs.close();
  expect(notes).toEqual(['compile a', 'compile broken', 'compile broken', 'close a', 'close broken']);
});
