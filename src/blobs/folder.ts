// Object store in a local folder; keys are paths below it. For a single machine; several need S3.
import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, opendir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { Readable } from 'node:stream';
import { type BlobInfo, BlobNotFound, type Blobs, type ListedBlob } from './blobs.ts';
import { measure } from './measured.ts';

/** Folder for incomplete objects; no key begins with it. */
const UNFINISHED = '.unfinished';
/** Age after which an incomplete object is considered left by a killed process. */
const ABANDONED_MS = 24 * 3600_000;

export async function openFolder(directory: string): Promise<Blobs> {
  const root = resolve(directory);
  await mkdir(join(root, UNFINISHED), { recursive: true });
  await removeAbandoned(join(root, UNFINISHED));
  const pathOf = (key: string) => join(root, ...checkKey(key));
  return {
    async put(key, body, options = {}) {
      const path = pathOf(key);
      const unfinished = join(root, UNFINISHED, randomUUID());
      try {
        const info = await writeAll(unfinished, measure(key, body, options));
        await moveInto(unfinished, path);
        return info;
      } catch (error) {
        await rm(unfinished, { force: true });
        throw error;
      }
    },
    async get(key, range) {
      const path = pathOf(key);
      const handle = await open(path).catch(error => {
        throw isMissing(error) ? new BlobNotFound(key) : error;
      });
      if (range && range.end <= range.start) {
        await handle.close();
        return Readable.from([]);
      }
      return handle.createReadStream(range && { start: range.start, end: range.end - 1 });
    },
    async size(key) {
      const found = await stat(pathOf(key)).catch(nullWhenMissing);
      return found?.isFile() ? found.size : null;
    },
    async delete(key) {
      await rm(pathOf(key), { force: true });
      await removeEmptyParents(dirname(pathOf(key)), root);
    },
    list: prefix => list(root, prefix),
    localPath: pathOf,
    async check() {
      const probe = join(root, UNFINISHED, randomUUID());
      const handle = await open(probe, 'wx');
      await handle.close();
      await rm(probe);
    },
  };
}

/** Keys are made by the service, but may contain names given by users. */
function checkKey(key: string): string[] {
  const parts = key.split('/');
  const bad = parts.some(part => part === '' || part === '.' || part === '..' || part.includes('\0'));
  if (bad || parts[0] === UNFINISHED) throw new TypeError(`not an object key: ${JSON.stringify(key)}`);
  return parts;
}

async function writeAll(path: string, measured: ReturnType<typeof measure>): Promise<BlobInfo> {
  const handle = await open(path, 'wx');
  try {
    for await (const chunk of measured.chunks) await writeChunk(handle, chunk);
    await handle.sync();
    return measured.info();
  } finally {
    await handle.close();
  }
}

async function writeChunk(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.byteLength; ) {
    done += (await handle.write(chunk, done)).bytesWritten;
  }
}

/** Retries, because a concurrent delete may remove the empty folder before the move. */
async function moveInto(unfinished: string, path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await mkdir(dirname(path), { recursive: true });
    try {
      await rename(unfinished, path);
      return await syncFolder(dirname(path));
    } catch (error) {
      if (!isMissing(error) || attempt === 10) throw error;
    }
  }
}

/** Makes the rename durable. Windows cannot open folders and does not need it. */
async function syncFolder(directory: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(directory).catch(nullWhenMissing);
  await handle?.sync();
  await handle?.close();
}

async function removeEmptyParents(directory: string, root: string): Promise<void> {
  for (let folder = directory; folder !== root; folder = dirname(folder)) {
    const removed = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!removed) return;
  }
}

async function* list(root: string, prefix: string): AsyncGenerator<ListedBlob> {
  const folder = join(root, prefix.slice(0, prefix.lastIndexOf('/') + 1));
  for await (const path of filesBelow(folder)) {
    const key = relative(root, path).split(sep).join('/');
    if (!key.startsWith(prefix) || key.startsWith(`${UNFINISHED}/`)) continue;
    const found = await stat(path).catch(nullWhenMissing);
    if (found) yield { key, storedAt: found.mtime };
  }
}

async function* filesBelow(directory: string): AsyncGenerator<string> {
  const entries = await opendir(directory).catch(nullWhenMissing);
  if (!entries) return;
  for await (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else yield path;
  }
}

async function removeAbandoned(directory: string): Promise<void> {
  for await (const path of filesBelow(directory)) {
    const found = await stat(path).catch(nullWhenMissing);
    if (found && Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
  }
}

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

function nullWhenMissing(error: unknown): null {
  if (isMissing(error)) return null;
  throw error;
}
