// Paths of the CUDA libraries that `npm run setup:cuda` installs, and the environment in which a process finds them.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** File written last; says what was unpacked. */
export const STAMP = 'unpacked';
export const CUDA_HOME = join(import.meta.dirname, '../../../.cuda');

/** The `lib` folder of every installed package. */
function libraryFolders(home: string): string[] {
  try {
    return readdirSync(join(home, 'nvidia')).map(name => join(home, 'nvidia', name, 'lib'));
  } catch {
    return [];
  }
}

/** Whether the set-up has completed. It does not say whether there is a GPU. */
export const cudaIsSetUp = (home = CUDA_HOME): boolean => existsSync(join(home, STAMP));

/** The environment for a process that may use CUDA; the loader reads LD_LIBRARY_PATH once, at start. */
export function cudaEnvironment(environment = process.env, home = CUDA_HOME): NodeJS.ProcessEnv {
  const folders = libraryFolders(home);
  if (folders.length === 0) return environment;
  const before = environment.LD_LIBRARY_PATH ? [environment.LD_LIBRARY_PATH] : [];
  return { ...environment, LD_LIBRARY_PATH: [...folders, ...before].join(':') };
}
