// Writes a folder as one tar file, reproducibly: equal folders give equal bytes.
import { createReadStream, createWriteStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import tar from 'tar-stream';

/** Paths in the archive start with `name`. */
export async function writeArchive(directory: string, name: string, file: string): Promise<void> {
  const pack = tar.pack();
  const written = pipeline(pack, createWriteStream(file));
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile());
  const paths = files.map(({ parentPath, name: own }) => relative(directory, join(parentPath, own)));
  for (const path of paths.sort()) {
    const { size } = await stat(join(directory, path));
    const entry = pack.entry({ name: `${name}/${path}`, size, mode: 0o644, mtime: new Date(0) });
    await pipeline(createReadStream(join(directory, path)), entry);
  }
  pack.finalize();
  await written;
}
