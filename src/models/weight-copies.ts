// A cache of model weights converted to another form: made once per version of the model's files and mapped by all
// users. The caller decides what a copy contains.
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

/** A copy unused for this long is deleted when the next one is made. */
const UNUSED_MS = 30 * 24 * 3600 * 1000;

type Weights = Readonly<Record<string, StoredTensor>>;

/** Opens the copy of the weights `of`; `make` provides its content if there is none below `directory` yet. */
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

/** A hash of the tensors' names and of the files' paths, sizes and times: owners may change base models in place. */
async function identityOf(weights: Weights): Promise<string> {
  const hash = createHash('sha256').update(`${Object.keys(weights).join(' ')}\n`);
  for (const file of new Set(Object.values(weights).map(({ file }) => file))) {
    const { size, mtimeMs } = await stat(file);
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 32);
}

/** Concurrent writers of the same copy do not collide: each renames its own file. */
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
    // A folder here was left by a killed process.
    if (found && Date.now() - found.mtimeMs > UNUSED_MS) await rm(path, { recursive: true, force: true });
  }
}
