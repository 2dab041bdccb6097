// Saves and loads the progress of a pre-training run: a killed run resumes from the last save with the same numbers.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OptimizerState } from '../training/optimizer.ts';

export interface Progress {
  /** Completed steps. */
  step: number;
  /** Mean training loss of each step so far. */
  losses: number[];
  /** Time spent on steps, over all processes. */
  seconds: number;
}

const FLAT = ['parameters', 'm', 'v'] as const;

/** Fills `state` from the save in `folder` and returns the progress; null if nothing is saved. */
export function loadProgress(folder: string, state: OptimizerState): Progress | null {
  const saved = [join(folder, 'saved'), join(folder, 'saved.previous')].find(path =>
    existsSync(join(path, 'progress.json')),
  );
  if (!saved) return null;
  for (const name of FLAT) {
    const bytes = readFileSync(join(saved, `${name}.f32`));
    if (bytes.length !== state[name].byteLength)
      throw new Error(`${saved}/${name}.f32 is of another model: remove ${folder}`);
    new Uint8Array(state[name].buffer, state[name].byteOffset, bytes.length).set(bytes);
  }
  return JSON.parse(readFileSync(join(saved, 'progress.json'), 'utf8'));
}

/** The previous save is kept until the new one is complete. */
export function saveProgress(folder: string, state: OptimizerState, progress: Progress): void {
  const [next, saved, previous] = ['saved.next', 'saved', 'saved.previous'].map(name =>
    join(folder, name),
  ) as [string, string, string];
  rmSync(next, { recursive: true, force: true });
  mkdirSync(next, { recursive: true });
  for (const name of FLAT) {
    const { buffer, byteOffset, byteLength } = state[name];
    writeFileSync(join(next, `${name}.f32`), new Uint8Array(buffer, byteOffset, byteLength));
  }
  writeFileSync(join(next, 'progress.json'), JSON.stringify(progress));
  rmSync(previous, { recursive: true, force: true });
  if (existsSync(saved)) renameSync(saved, previous);
  renameSync(next, saved);
}
