// Downloads the files of stored models to local folders, which programs can map. Used by workers and generation.
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { access, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, normalize, sep } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Blobs } from '../blobs/blobs.ts';

/** A model's file in the object store. */
export interface ModelFile {
  /** Relative to the model's folder. */
  path: string;
  key: string;
  bytes: number;
  sha256: string;
}

export interface ModelCache {
  /**
   * A read-only folder with the files. Concurrent calls for the same files share one download; concurrent processes may both download,
   * and one result is kept. Throws if a file's size or hash differs.
   */
  materialize(files: readonly ModelFile[]): Promise<string>;
}

const PARTIAL = '.partial-';
/** Age at which an aborted download is deleted. */
const STALE_MS = 24 * 3600 * 1000;

export function openModelCache(blobs: Blobs, directory: string): ModelCache {
  const downloads = new Map<string, Promise<string>>();
  return {
    async materialize(files) {
      for (const file of files) checkPath(file.path);
      const local = await localFolder(blobs, files);
      if (local) return local;
      const name = identityOf(files);
      const running = downloads.get(name) ?? download(blobs, files, join(directory, name));
      downloads.set(name, running);
      return running.finally(() => downloads.delete(name));
    },
  };
}

function checkPath(path: string): void {
  const plain = normalize(path);
  if (path === '' || plain.startsWith('..') || plain.startsWith(sep))
    throw new Error(`'${path}' leaves its folder`);
}

/** Equal contents share a folder, whatever the model's name. */
function identityOf(files: readonly ModelFile[]): string {
  const lines = files.map(({ path, sha256 }) => `${sha256} ${path}\n`).sort();
  return createHash('sha256').update(lines.join('')).digest('hex').slice(0, 32);
}

/** The store's own folder if it holds the files in the layout of a model folder; otherwise, or if a file is missing, null. */
async function localFolder(blobs: Blobs, files: readonly ModelFile[]): Promise<string | null> {
  const folders = files.map(({ key, path }) => {
    const stored = blobs.localPath(key);
    return stored?.endsWith(`${sep}${normalize(path)}`) ? stored.slice(0, -normalize(path).length - 1) : null;
  });
  const folder = folders[0];
  if (!folder || folders.some(other => other !== folder)) return null;
  for (const { path, bytes } of files) {
    const found = await stat(join(folder, path)).catch(nullWhenMissing);
    if (!found) return null; // the download reports which object is missing
    if (found.size !== bytes)
      throw new Error(`${join(folder, path)} has ${found.size} bytes instead of ${bytes}`);
  }
  return folder;
}

function nullWhenMissing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** The folder is renamed into place only when all files are complete. */
async function download(blobs: Blobs, files: readonly ModelFile[], folder: string): Promise<string> {
  if (await exists(folder)) return folder;
  await sweep(dirname(folder));
  const partial = join(dirname(folder), PARTIAL + randomUUID());
  try {
    for (const file of files) await downloadFile(blobs, file, join(partial, file.path));
    await rename(partial, folder).catch(async error => {
      // Another process was first, with the same contents.
      if (!(await exists(folder))) throw error;
    });
    return folder;
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function downloadFile(blobs: Blobs, file: ModelFile, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const hash = createHash('sha256');
  let bytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  await pipeline(await blobs.get(file.key), measure, createWriteStream(path));
  if (bytes !== file.bytes) throw new Error(`${file.key} has ${bytes} bytes instead of ${file.bytes}`);
  const sha256 = hash.digest('hex');
  if (sha256 !== file.sha256) throw new Error(`${file.key} has sha256 ${sha256} instead of ${file.sha256}`);
}

async function sweep(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(directory)) {
    if (!name.startsWith(PARTIAL)) continue;
    const found = await stat(join(directory, name)).catch(() => null);
    if (found && Date.now() - found.mtimeMs > STALE_MS)
      await rm(join(directory, name), { recursive: true, force: true });
  }
}
