// Where a pre-training run stands, on disk: a killed run goes on from the last save with the same numbers.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OptimizerState } from '../training/optimizer.ts';

export interface Progress {
  /** Steps taken. */
  step: number;
  /** Mean training loss of each step so far. */
  losses: number[];
  /** Spent on steps, in all runs together. */
  seconds: number;
}

const FLAT = ['parameters', 'm', 'v'] as const;

/** Fills `state` from the save in `folder` and tells how far it is; null when nothing is saved. */
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

/** The save before stays until the new one is whole. */
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
