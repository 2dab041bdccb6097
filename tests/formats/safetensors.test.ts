// The safetensors reader and writer against hand-made bytes and against each other.
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readHeader, readModelHeaders, readTensor, writeSafetensors } from '../../src/formats/safetensors.ts';

const folder = () => mkdtemp(join(tmpdir(), 'safetensors-'));

function fileOf(header: unknown, data: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

test('reads F32, F16 and BF16 from hand-made bytes, leaves other types out', async () => {
  const file = join(await folder(), 'a.safetensors');
  const header = {
    __metadata__: { format: 'pt' },
    f32: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
    f16: { dtype: 'F16', shape: [2], data_offsets: [4, 8] },
    bf16: { dtype: 'BF16', shape: [1, 2], data_offsets: [8, 12] },
    mask: { dtype: 'BOOL', shape: [1], data_offsets: [12, 13] },
  };
  // 1.5 | 1, -2 in half | 1, -2 in bfloat16
  const data = Uint8Array.from([0, 0, 0xc0, 0x3f, 0, 0x3c, 0, 0xc0, 0x80, 0x3f, 0, 0xc0, 1]);
  await writeFile(file, fileOf(header, data));
  const { tensors, metadata } = await readHeader(file);
  expect(metadata).toEqual({ format: 'pt' });
  expect(Object.keys(tensors)).toEqual(['f32', 'f16', 'bf16']);
  expect(await readTensor(tensors.f32!)).toEqual(Float32Array.of(1.5));
  expect(await readTensor(tensors.f16!)).toEqual(Float32Array.of(1, -2));
  expect(await readTensor(tensors.bf16!)).toEqual(Float32Array.of(1, -2));
  expect(tensors.bf16!.shape).toEqual([1, 2]);
});

test('writes what it reads, rounding BF16 to the nearest even', async () => {
  const file = join(await folder(), 'b.safetensors');
  const values = Float32Array.of(
    1,
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
    -3.1412,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  );
  const shape = [2, 3];
  await writeSafetensors(file, {
    exact: { dtype: 'F32', shape, data: values },
    half: { dtype: 'F16', shape, data: values },
    brain: { dtype: 'BF16', shape, data: values },
  });
  const { tensors } = await readHeader(file);
  expect(await readTensor(tensors.exact!)).toEqual(values);
  expect(Array.from(await readTensor(tensors.brain!))).toEqual([
    1,
    1,
    1 + 2 ** -6,
    -3.140625,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ]);
  expect((await readTensor(tensors.half!))[3]).toBe(Math.fround(-3.140625));
  const copy = join(await folder(), 'c.safetensors');
  await writeSafetensors(copy, { brain: { dtype: 'BF16', shape, data: tensors.brain! } });
  const copied = (await readHeader(copy)).tensors.brain!;
  expect(await readTensor(copied)).toEqual(await readTensor(tensors.brain!));
  expect((copied.offset - 8) % 8).toBe(0);
});

test('reads a sharded folder by its index', async () => {
  const directory = await folder();
  const one = { dtype: 'F32', shape: [1], data: Float32Array.of(1) } as const;
  await writeSafetensors(join(directory, 'x-1.safetensors'), { a: one });
  await writeSafetensors(join(directory, 'x-2.safetensors'), { b: one });
  const index = { weight_map: { a: 'x-1.safetensors', b: 'x-2.safetensors' } };
  await writeFile(join(directory, 'model.safetensors.index.json'), JSON.stringify(index));
  expect(Object.keys((await readModelHeaders(directory)).tensors)).toEqual(['a', 'b']);
});

test('a sharded folder may hold tensors of types that are not read', async () => {
  const directory = await folder();
  const header = {
    weight: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
    mask: { dtype: 'U8', shape: [4], data_offsets: [4, 8] },
    positions: { dtype: 'I64', shape: [1], data_offsets: [8, 16] },
  };
  await writeFile(join(directory, 'x.safetensors'), fileOf(header, new Uint8Array(16)));
  const map = Object.fromEntries(Object.keys(header).map(name => [name, 'x.safetensors']));
  await writeFile(join(directory, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  const { tensors, codes, unread } = await readModelHeaders(directory);
  expect([Object.keys(tensors), Object.keys(codes), unread]).toEqual([['weight'], ['mask'], ['positions']]);
});

test.each([
  ['another folder', { weight_map: { a: '../x.safetensors' } }, 'not the name of a safetensors file'],
  ['the folder above', { weight_map: { a: '..' } }, 'not the name of a safetensors file'],
  ['no file', { weight_map: { a: 3 } }, 'not the name of a safetensors file'],
  ['nothing', {}, 'weight_map must say'],
  ['a tensor that is not there', { weight_map: { b: 'x.safetensors' } }, "'b' is not in x.safetensors"],
])('refuses an index that names %s', async (_name, index, message) => {
  const directory = await folder();
  const a = { dtype: 'F32', shape: [1], data: Float32Array.of(1) } as const;
  await writeSafetensors(join(directory, 'x.safetensors'), { a });
  await writeFile(join(directory, 'model.safetensors.index.json'), JSON.stringify(index));
  await expect(readModelHeaders(directory)).rejects.toThrow(message);
});

test.each([
  ['truncated data', { a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, 4, 'outside the file'],
  ['wrong size', { a: { dtype: 'F32', shape: [3], data_offsets: [0, 8] } }, 8, 'cannot take 8 bytes'],
  ['negative offset', { a: { dtype: 'F32', shape: [2], data_offsets: [-8, 0] } }, 8, 'no valid shape'],
  ['offsets in text', { a: { dtype: 'F32', shape: [2], data_offsets: ['0', '8'] } }, 8, 'no valid shape'],
  ['one offset', { a: { dtype: 'F32', shape: [0], data_offsets: [0] } }, 0, 'no valid shape'],
  ['null for a tensor', { a: null }, 8, 'no valid shape'],
  ['not an object', [], 0, 'not a JSON object'],
])('refuses %s', async (_name, header, dataBytes, message) => {
  const file = join(await folder(), 'd.safetensors');
  await writeFile(file, fileOf(header, new Uint8Array(dataBytes)));
  await expect(readHeader(file)).rejects.toThrow(message);
});

test('refuses a file that is something else', async () => {
  const file = join(await folder(), 'e.safetensors');
  await writeFile(file, 'version https://git-lfs.github.com/spec/v1\n');
  await expect(readHeader(file)).rejects.toThrow('not a safetensors file');
});

test('a write that fails leaves no file under the name', async () => {
  const file = join(await folder(), 'f.safetensors');
  const wrong = { dtype: 'F32', shape: [2], data: Float32Array.of(1) } as const;
  await expect(writeSafetensors(file, { a: wrong })).rejects.toThrow('was given 1 numbers, not 2');
  await expect(readFile(file)).rejects.toThrow('ENOENT');
});
