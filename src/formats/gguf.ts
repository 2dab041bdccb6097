// Reads and writes the GGUF container, version 3: typed metadata and aligned tensors.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
import { open } from 'node:fs/promises';
import type { StoredTensor } from '../engine/program.ts';
import { narrow, type StoredDType } from './safetensors.ts';

const MAGIC = 0x46554747;
const VERSION = 3;
const ALIGNMENT = 32;
const TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;
const TENSOR_TYPES = { F32: 0, F16: 1, BF16: 30 } as const satisfies Record<StoredDType, number>;
const WIDTHS = { F32: 4, F16: 2, BF16: 2 } as const satisfies Record<StoredDType, number>;

export type GgufValue =
  | { u32: number }
  | { i32: number }
  | { f32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: readonly string[] }
  | { i32s: readonly number[] }
  | { f32s: readonly number[] };

export interface GgufTensor {
  /** Row-major, outermost axis first. */
  readonly shape: readonly number[];
  readonly dtype: StoredDType;
  /** Produces the numbers when the tensor is written. */
  data(): Promise<Float32Array>;
}

export interface GgufFile {
  readonly metadata: Readonly<Record<string, GgufValue>>;
  readonly tensors: Readonly<Record<string, GgufTensor>>;
}

// ---- writing

function number(kind: 'u32' | 'i32' | 'f32', value: number): Buffer {
  const bytes = Buffer.alloc(4);
  if (kind === 'u32') bytes.writeUInt32LE(value);
  else if (kind === 'i32') bytes.writeInt32LE(value);
  else bytes.writeFloatLE(value);
  return bytes;
}

function length(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([length(bytes.length), bytes]);
}

const array = (type: number, items: readonly Buffer[]): Buffer =>
  Buffer.concat([number('u32', TYPES.array), number('u32', type), length(items.length), ...items]);

function valueBytes(value: GgufValue): Buffer {
  if ('u32' in value) return Buffer.concat([number('u32', TYPES.u32), number('u32', value.u32)]);
  if ('i32' in value) return Buffer.concat([number('u32', TYPES.i32), number('i32', value.i32)]);
  if ('f32' in value) return Buffer.concat([number('u32', TYPES.f32), number('f32', value.f32)]);
  if ('bool' in value) return Buffer.concat([number('u32', TYPES.bool), Buffer.from([value.bool ? 1 : 0])]);
  if ('string' in value) return Buffer.concat([number('u32', TYPES.string), string(value.string)]);
  if ('strings' in value) return array(TYPES.string, value.strings.map(string));
  if ('i32s' in value)
    return array(
      TYPES.i32,
      value.i32s.map(item => number('i32', item)),
    );
  return array(
    TYPES.f32,
    value.f32s.map(item => number('f32', item)),
  );
}

const align = (offset: number): number => Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
const sizeOf = ({ shape, dtype }: GgufTensor): number =>
  shape.reduce((size, axis) => size * axis, 1) * WIDTHS[dtype];

/** GGUF lists axes innermost first. */
function tensorInfo(name: string, { shape, dtype }: GgufTensor, offset: number): Buffer {
  return Buffer.concat([
    string(name),
    number('u32', shape.length),
    ...shape.toReversed().map(length),
    number('u32', TENSOR_TYPES[dtype]),
    length(offset),
  ]);
}

/** Writes tensor by tensor, in the given order. */
export async function writeGguf(file: string, { metadata, tensors }: GgufFile): Promise<void> {
  const list = Object.entries(tensors);
  let offset = 0;
  const infos = list.map(([name, tensor]) => {
    const info = tensorInfo(name, tensor, offset);
    offset += align(sizeOf(tensor));
    return info;
  });
  const pairs = Object.entries(metadata).flatMap(([key, value]) => [string(key), valueBytes(value)]);
  const head = Buffer.concat([
    number('u32', MAGIC),
    number('u32', VERSION),
    length(list.length),
    length(Object.keys(metadata).length),
    ...pairs,
    ...infos,
  ]);
  const handle = await open(file, 'w');
  try {
    await handle.writeFile(pad(head));
    for (const [name, tensor] of list) {
      const numbers = await tensor.data();
      const bytes = narrow(numbers, tensor.dtype);
      if (bytes.byteLength !== sizeOf(tensor))
        throw new Error(`tensor ${name} [${tensor.shape}] was given ${numbers.length} numbers`);
      await handle.writeFile(pad(bytes));
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function pad(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(align(bytes.byteLength));
  padded.set(bytes);
  return padded;
}

// ---- reading

/** Locates every tensor. Throws for tensor types other than those written here. */
export async function readGgufTensors(file: string): Promise<Record<string, StoredTensor>> {
  const bytes = await readHead(file);
  const reader = openReader(bytes);
  if (reader.u32() !== MAGIC || reader.u32() !== VERSION)
    throw new Error(`${file} is no GGUF file of version 3`);
  const [tensorCount, pairCount] = [reader.length(), reader.length()];
  for (let i = 0; i < pairCount; i++) {
    reader.string();
    skipValue(reader, reader.u32());
  }
  const infos = Array.from({ length: tensorCount }, () => readInfo(reader));
  const start = align(reader.position());
  return Object.fromEntries(
    infos.map(({ name, shape, dtype, offset }) => {
      const sizeBytes = shape.reduce((size, axis) => size * axis, 1) * WIDTHS[dtype];
      return [name, { file, offset: start + offset, sizeBytes, shape, dtype }];
    }),
  );
}

/** Larger than the header of any model: vocabularies are a few MB. */
const MAX_HEAD_BYTES = 256 * 2 ** 20;

async function readHead(file: string): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const bytes = Buffer.alloc(Math.min(size, MAX_HEAD_BYTES));
    await handle.read(bytes, 0, bytes.length, 0);
    return bytes;
  } finally {
    await handle.close();
  }
}

function openReader(bytes: Buffer) {
  let at = 0;
  const take = (count: number): number => {
    at += count;
    return at - count;
  };
  return {
    u32: () => bytes.readUInt32LE(take(4)),
    length: () => Number(bytes.readBigUInt64LE(take(8))),
    string(): string {
      const count = Number(bytes.readBigUInt64LE(take(8)));
      const from = take(count);
      return bytes.toString('utf8', from, from + count);
    },
    skip: (count: number) => void take(count),
    position: () => at,
  };
}

type Reader = ReturnType<typeof openReader>;

function skipValue(reader: Reader, type: number): void {
  if (type === TYPES.string) reader.string();
  else if (type === TYPES.bool) reader.skip(1);
  else if (type !== TYPES.array) reader.skip(4);
  else {
    const item = reader.u32();
    for (let left = reader.length(); left > 0; left--) skipValue(reader, item);
  }
}

function readInfo(reader: Reader) {
  const name = reader.string();
  const shape = Array.from({ length: reader.u32() }, () => reader.length()).reverse();
  const type = reader.u32();
  const dtype = (Object.keys(TENSOR_TYPES) as StoredDType[]).find(name => TENSOR_TYPES[name] === type);
  if (!dtype) throw new Error(`tensor ${name} has the type ${type}`);
  return { name, shape, dtype, offset: reader.length() };
}
