// Where `npm run setup:cuda` puts CUDA's libraries, and how a process finds them. It loads nothing.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Written last: what was unpacked. */
export const STAMP = 'unpacked';
export const CUDA_HOME = join(import.meta.dirname, '../../../.cuda');

/** `lib` of every package of the set-up; none without one. */
function libraryFolders(home: string): string[] {
  try {
    return readdirSync(join(home, 'nvidia')).map(name => join(home, 'nvidia', name, 'lib'));
  } catch {
    return [];
  }
}

/** Whether the set-up came to its end here; whether a GPU is there is another question. */
export const cudaIsSetUp = (home = CUDA_HOME): boolean => existsSync(join(home, STAMP));

/** The environment for a process that may compute on CUDA: the loader reads it once, when a process starts. */
export function cudaEnvironment(environment = process.env, home = CUDA_HOME): NodeJS.ProcessEnv {
  const folders = libraryFolders(home);
  if (folders.length === 0) return environment;
  const before = environment.LD_LIBRARY_PATH ? [environment.LD_LIBRARY_PATH] : [];
  return { ...environment, LD_LIBRARY_PATH: [...folders, ...before].join(':') };
}
