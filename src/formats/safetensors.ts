// Reads and writes the safetensors format. https://github.com/huggingface/safetensors#format
import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { access, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredCodes, StoredTensor } from '../engine/program.ts';

export type StoredDType = StoredTensor['dtype'];
type CodeDType = StoredCodes['dtype'];

/** A malformed file; `message` names it and what is wrong. */
class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError';
}

export interface SafetensorsFile {
  readonly tensors: Record<string, StoredTensor>;
  /** Tensors of 8-bit integers: codes of quantized weights, masks. */
  readonly codes: Record<string, StoredCodes>;
  /** Names of tensors of other types, which are never read: counters, position ids. */
  readonly unread: readonly string[];
  readonly metadata: Record<string, string>;
}

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const MAX_HEADER_BYTES = 100_000_000;
const BYTES = { F32: 4, F16: 2, BF16: 2 } satisfies Record<StoredDType, number>;
const CODE_BYTES = { I8: 1, U8: 1 } satisfies Record<CodeDType, number>;
const ALL_BYTES = { ...BYTES, ...CODE_BYTES };
const CHUNK_NUMBERS = 1 << 20;
const ALIGNMENT = 64;

const product = (shape: readonly number[]) => shape.reduce((size, length) => size * length, 1);

async function readFully(
  handle: FileHandle,
  buffer: Uint8Array,
  position: number,
  file: string,
): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await handle.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) throw new SafetensorsError(`${file}: ends at byte ${position + done}, too early`);
    done += bytesRead;
  }
}

function parseObject(what: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch (cause) {
    throw new SafetensorsError(`${what} is not JSON`, { cause });
  }
  throw new SafetensorsError(`${what} is not a JSON object`);
}

const isLengths = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every(each => Number.isSafeInteger(each) && each >= 0);

function toStored(
  file: string,
  name: string,
  entry: Partial<HeaderEntry> | null,
  start: number,
  end: number,
): StoredTensor | StoredCodes | null {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  if (!isLengths(shape) || !isLengths(offsets) || offsets.length !== 2)
    throw new SafetensorsError(`${file}: tensor '${name}' has no valid shape or data_offsets`);
  if (dtype === undefined || !Object.hasOwn(ALL_BYTES, dtype)) return null;
  const [begin, finish] = offsets as [number, number];
  const sizeBytes = finish - begin;
  if (sizeBytes !== product(shape) * ALL_BYTES[dtype as keyof typeof ALL_BYTES])
    throw new SafetensorsError(
      `${file}: tensor '${name}' [${shape}] ${dtype} cannot take ${sizeBytes} bytes`,
    );
  if (start + finish > end) throw new SafetensorsError(`${file}: tensor '${name}' lies outside the file`);
  return { file, offset: start + begin, sizeBytes, shape, dtype: dtype as StoredDType };
}

const isCodes = (stored: StoredTensor | StoredCodes): stored is StoredCodes =>
  Object.hasOwn(CODE_BYTES, stored.dtype);

/** Locates the tensors of one file, of the types F32, F16, BF16, I8 and U8. */
export async function readHeader(file: string): Promise<SafetensorsFile> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const prefix = Buffer.alloc(8);
    await readFully(handle, prefix, 0, file);
    const headerBytes = Number(prefix.readBigUInt64LE());
    if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size)
      throw new SafetensorsError(`${file}: not a safetensors file (header of ${headerBytes} bytes)`);
    const buffer = Buffer.alloc(headerBytes);
    await readFully(handle, buffer, 8, file);
    const { __metadata__: metadata = {}, ...entries } = parseObject(
      `${file}: the header`,
      buffer.toString('utf8'),
    );
    const tensors: Record<string, StoredTensor> = {};
    const codes: Record<string, StoredCodes> = {};
    const unread: string[] = [];
    for (const [name, entry] of Object.entries(entries)) {
      const stored = toStored(file, name, entry as Partial<HeaderEntry> | null, 8 + headerBytes, size);
      if (stored === null) unread.push(name);
      else if (isCodes(stored)) codes[name] = stored;
      else tensors[name] = stored;
    }
    return { tensors, codes, unread, metadata: metadata as unknown as Record<string, string> };
  } finally {
    await handle.close();
  }
}

const exists = (file: string) =>
  access(file).then(
    () => true,
    () => false,
  );

/** Names of shards as transformers writes them; it excludes paths that leave the folder. */
const SHARD = /^[\w.-]+\.safetensors$/;

/** Returns the file of each tensor. */
function parseIndex(file: string, text: string): Record<string, string> {
  const map: unknown = parseObject(file, text).weight_map;
  if (typeof map !== 'object' || map === null)
    throw new SafetensorsError(`${file}: weight_map must say which file each tensor is in`);
  for (const shard of new Set<unknown>(Object.values(map)))
    if (typeof shard !== 'string' || !SHARD.test(shard))
      throw new SafetensorsError(`${file}: '${shard}' is not the name of a safetensors file in its folder`);
  return map as Record<string, string>;
}

/**
 * Locates every tensor of a Hugging Face folder: `model.safetensors`, or the shards named by
 * `model.safetensors.index.json`.
 */
export async function readModelHeaders(directory: string): Promise<SafetensorsFile> {
  const indexFile = join(directory, 'model.safetensors.index.json');
  if (!(await exists(indexFile))) return readHeader(join(directory, 'model.safetensors'));
  const map = parseIndex(indexFile, await readFile(indexFile, 'utf8'));
  const shards = new Map<string, SafetensorsFile>();
  for (const shard of new Set(Object.values(map)))
    shards.set(shard, await readHeader(join(directory, shard)));
  for (const [name, shard] of Object.entries(map)) {
    const { tensors, codes, unread } = shards.get(shard)!;
    if (!tensors[name] && !codes[name] && !unread.includes(name))
      throw new SafetensorsError(`${indexFile}: '${name}' is not in ${shard}`);
  }
  const all = [...shards.values()];
  return {
    tensors: Object.assign({}, ...all.map(({ tensors }) => tensors)),
    codes: Object.assign({}, ...all.map(({ codes }) => codes)),
    unread: all.flatMap(({ unread }) => unread),
    metadata: Object.assign({}, ...all.map(({ metadata }) => metadata)),
  };
}

/** BF16 is the upper half of a float32. */
function widenBf16(bytes: Uint8Array, into: Float32Array): void {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, into.length);
  const words = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
}

const READERS = {
  F32: (bytes, into) => new Uint8Array(into.buffer, into.byteOffset, into.byteLength).set(bytes),
  F16: (bytes, into) => into.set(new Float16Array(bytes.buffer, bytes.byteOffset, into.length)),
  BF16: widenBf16,
} satisfies Record<StoredDType, (bytes: Uint8Array, into: Float32Array) => void>;

/** A whole tensor as float32, converted in pieces. */
export async function readTensor(stored: StoredTensor): Promise<Float32Array> {
  const values = new Float32Array(product(stored.shape));
  const width = BYTES[stored.dtype];
  const handle = await open(stored.file);
  try {
    for (let at = 0; at < values.length; at += CHUNK_NUMBERS) {
      const part = values.subarray(at, Math.min(at + CHUNK_NUMBERS, values.length));
      const bytes = new Uint8Array(part.length * width);
      await readFully(handle, bytes, stored.offset + at * width, stored.file);
      READERS[stored.dtype](bytes, part);
    }
  } finally {
    await handle.close();
  }
  return values;
}

/** Codes as bytes. */
export async function readCodes({ file, offset, sizeBytes }: StoredCodes): Promise<Uint8Array> {
  const bytes = new Uint8Array(sizeBytes);
  const handle = await open(file);
  try {
    await readFully(handle, bytes, offset, file);
  } finally {
    await handle.close();
  }
  return bytes;
}

/** Rounds to the nearest, ties to even, as torch does. */
function narrowBf16(values: Float32Array): Uint8Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const notANumber = (word & 0x7fffffff) > 0x7f800000;
    halves[i] = notANumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(halves.buffer);
}

const WRITERS = {
  F32: values => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  F16: values => new Uint8Array(new Float16Array(values).buffer),
  BF16: narrowBf16,
} satisfies Record<StoredDType, (values: Float32Array) => Uint8Array>;

/** The numbers as bytes of a type, rounded to nearest. */
export const narrow = (values: Float32Array, dtype: StoredDType): Uint8Array => WRITERS[dtype](values);

/** float32 numbers are converted to the type asked for; codes are written as they are. */
export type Writable = Float32Array | Int8Array | Uint8Array;

/**
 * A tensor to write: its numbers; or a stored tensor, copied and converted if the types differ; or a function that
 * produces the numbers when they are written.
 */
export interface TensorToWrite {
  readonly dtype: StoredDType | CodeDType;
  readonly shape: readonly number[];
  readonly data: Writable | StoredTensor | StoredCodes | (() => Promise<Writable>);
}

async function writeNumbers(handle: FileHandle, dtype: StoredDType, values: Float32Array): Promise<void> {
  for (let at = 0; at < values.length; at += CHUNK_NUMBERS)
    await handle.writeFile(WRITERS[dtype](values.subarray(at, at + CHUNK_NUMBERS)));
}

async function copyStored(handle: FileHandle, stored: StoredTensor | StoredCodes): Promise<void> {
  if (stored.sizeBytes === 0) return;
  await handle.writeFile(
    createReadStream(stored.file, { start: stored.offset, end: stored.offset + stored.sizeBytes - 1 }),
  );
}

async function writeTensor(
  handle: FileHandle,
  dtype: TensorToWrite['dtype'],
  data: Writable | StoredTensor | StoredCodes,
): Promise<void> {
  if (data instanceof Float32Array) await writeNumbers(handle, dtype as StoredDType, data);
  else if (!('shape' in data)) await handle.writeFile(data);
  else if (data.dtype === dtype || isCodes(data)) await copyStored(handle, data);
  else await writeNumbers(handle, dtype as StoredDType, await readTensor(data));
}

function checkCount(file: string, name: string, shape: readonly number[], given: number): void {
  const count = product(shape);
  if (given !== count)
    throw new SafetensorsError(
      `${file}: tensor '${name}' [${shape}] was given ${given} numbers, not ${count}`,
    );
}

function layout(
  file: string,
  tensors: Record<string, TensorToWrite>,
  metadata: Record<string, string>,
): Buffer {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, tensor] of Object.entries(tensors)) {
    const { dtype, shape, data } = tensor;
    if (typeof data !== 'function')
      checkCount(file, name, shape, 'shape' in data ? product(data.shape) : data.length);
    const sizeBytes = product(shape) * ALL_BYTES[dtype];
    header[name] = { dtype, shape, data_offsets: [offset, offset + sizeBytes] };
    offset += sizeBytes;
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  // Padded with spaces, so that the data is aligned.
  const padded = Buffer.alloc(Math.ceil((8 + json.length) / ALIGNMENT) * ALIGNMENT, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8));
  json.copy(padded, 8);
  return padded;
}

/** Writes tensor by tensor in the given order; the file gets its name only when it is complete and synced to disk. */
export async function writeSafetensors(
  file: string,
  tensors: Record<string, TensorToWrite>,
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const header = layout(file, tensors, metadata);
  const partial = `${file}.partial`;
  const handle = await open(partial, 'w');
  try {
    await handle.writeFile(header);
    for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
      if (typeof data !== 'function') await writeTensor(handle, dtype, data);
      else {
        const made = await data();
        checkCount(file, name, shape, made.length);
        await writeTensor(handle, dtype, made);
      }
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(partial, file);
}
