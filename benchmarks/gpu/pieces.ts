// Files as one compressed tar, cut into pieces that are small enough to be carried one by one. unpack.sh joins them.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import tar from 'tar-stream';

export interface Packed {
  /** Where it lies here, and its path below the folder that the bundle is unpacked in. */
  readonly path: string;
  readonly name: string;
}

/** The list of all pieces, as `sha256sum -c` reads it. */
export const SUMS = 'sums';

async function addAll(pack: tar.Pack, files: readonly Packed[]): Promise<void> {
  for (const { path, name } of files) {
    const { size, mode } = await stat(path);
    const entry = pack.entry({ name, size, mode: mode & 0o777, mtime: new Date(0) });
    await pipeline(createReadStream(path), entry);
  }
  pack.finalize();
}

/** One piece while it is written. */
class Piece {
  readonly #file: FileHandle;
  readonly #hash = createHash('sha256');
  readonly name: string;
  bytes = 0;

  private constructor(name: string, file: FileHandle) {
    this.name = name;
    this.#file = file;
  }

  static async open(folder: string, index: number): Promise<Piece> {
    const name = `piece-${String(index).padStart(3, '0')}`;
    return new Piece(name, await open(join(folder, name), 'w'));
  }

  async write(chunk: Buffer): Promise<void> {
    this.#hash.update(chunk);
    await this.#file.writeFile(chunk);
    this.bytes += chunk.length;
  }

  async close(): Promise<string> {
    await this.#file.close();
    return `${this.#hash.digest('hex')}  ${this.name}\n`;
  }
}

async function cut(chunks: AsyncIterable<Buffer>, folder: string, pieceBytes: number): Promise<string[]> {
  const sums: string[] = [];
  let piece = await Piece.open(folder, 1);
  for await (const chunk of chunks)
    for (let rest = chunk; rest.length > 0; ) {
      if (piece.bytes === pieceBytes) {
        sums.push(await piece.close());
        piece = await Piece.open(folder, sums.length + 1);
      }
      const part = rest.subarray(0, pieceBytes - piece.bytes);
      await piece.write(part);
      rest = rest.subarray(part.length);
    }
  return [...sums, await piece.close()];
}

/** Half the time of gzip's own choice, for files 6% larger. */
const FAST = 3;

/** Replaces what is in `folder`. -> how many pieces there are */
export async function writePieces(
  files: readonly Packed[],
  folder: string,
  pieceBytes: number,
): Promise<number> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const pack = tar.pack();
  const added = addAll(pack, files);
  let sums: string[] = [];
  await pipeline(pack, createGzip({ level: FAST }), async compressed => {
    sums = await cut(compressed, folder, pieceBytes);
  });
  await added;
  await writeFile(join(folder, SUMS), sums.join(''));
  return sums.length;
}
