// A folder of copies of models' weights in another type, made once for every state of a model's files and mapped by all who use
// it. What is in a copy is its maker's to say.
import { createHash, randomUUID } from 'node:crypto';
import { access, mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredTensor } from '../engine/program.ts';
import {
  readHeader,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from '../formats/safetensors.ts';

/** A copy that nobody has opened for so long is deleted when the next one is made. */
const UNUSED_MS = 30 * 24 * 3600 * 1000;

type Weights = Readonly<Record<string, StoredTensor>>;

/** Where the tensors of the copy of `of` lie; `make` says what to write when there is none below `directory` yet. */
export async function openCopy(
  directory: string,
  of: Weights,
  make: () => Record<string, TensorToWrite> | Promise<Record<string, TensorToWrite>>,
): Promise<SafetensorsFile> {
  const file = join(directory, `${await identityOf(of)}.safetensors`);
  if (await exists(file)) await utimes(file, new Date(), new Date());
  else await writeCopy(file, directory, await make());
  return readHeader(file);
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Of the tensors' names, and of the files as they are now: folders of base models may be changed by their owner. */
async function identityOf(weights: Weights): Promise<string> {
  const hash = createHash('sha256').update(`${Object.keys(weights).join(' ')}\n`);
  for (const file of new Set(Object.values(weights).map(({ file }) => file))) {
    const { size, mtimeMs } = await stat(file);
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 32);
}

/** Processes that write the same copy at once do not meet: each renames its own. */
async function writeCopy(
  file: string,
  directory: string,
  tensors: Record<string, TensorToWrite>,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  await deleteUnused(directory);
  const partial = join(directory, `${randomUUID()}.tmp`);
  try {
    await writeSafetensors(partial, tensors);
    await rename(partial, file);
  } finally {
    await rm(partial, { force: true });
    await rm(`${partial}.partial`, { force: true });
  }
}

async function deleteUnused(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const found = await stat(path).catch(() => null);
    // A folder is what a process that was killed has left.
    if (found && Date.now() - found.mtimeMs > UNUSED_MS) await rm(path, { recursive: true, force: true });
  }
}
