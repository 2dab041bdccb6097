// The `onnx` engine as a caller sees it: stored weights, arrays in and out, equal bits, steady memory, refusals.
import { mkdtemp } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import os, { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, expect, test, vi } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine, Program, StoredTensor } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import { readHeader, writeSafetensors } from '../../src/formats/safetensors.ts';
import { expectAlike, f32, numbers, programOf, runOn } from './programs.ts';

let engine: Engine;
let weights: Record<string, StoredTensor>;

beforeAll(async () => {
  engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 2 });
  const file = join(await mkdtemp(join(tmpdir(), 'engine-')), 'weights.safetensors');
  const data = numbers(64 * 96);
  const shape = [96, 64];
  await writeSafetensors(file, {
    odd: { dtype: 'F16', shape: [3], data: Float32Array.of(1, 2, 3) },
    f32: { dtype: 'F32', shape, data },
    f16: { dtype: 'F16', shape, data },
    bf16: { dtype: 'BF16', shape, data },
  });
  weights = (await readHeader(file)).tensors;
});

const product = (a: Tensor, b: Tensor): Tensor => tf.matMul(a as never, b as never, false, true);

const linear = (name: string): Program => ({
  name: `linear-${name}`,
  inputs: { x: { shape: [32, 64], dtype: 'float32' } },
  weights: { w: weights[name]! },
  run: ({ x }, { w }) => ({ y: product(x!, w!) }),
});

test.each(['f32', 'f16', 'bf16'])('%s weights are read where they lie in the file', async name => {
  const inputs = { x: numbers(32 * 64, 7) };
  const expected = await runOn(await openCpuEngine(), linear(name), inputs);
  expectAlike(await runOn(engine, linear(name), inputs), expected);
});

test('outputs are written into the arrays given, whole or as parts of larger ones', async () => {
  const executable = await engine.compile(linear('f32'));
  const inputs = { x: numbers(32 * 64, 7) };
  const { y: expected } = await executable.run(inputs);
  const flat = new Float32Array(32 * 96 + 20).fill(9);
  const into = { y: flat.subarray(10, 10 + 32 * 96) };
  const { y } = await executable.run(inputs, into);
  expect(y).toBe(into.y);
  expect(into.y).toEqual(expected);
  expect([...flat.subarray(0, 10), ...flat.subarray(-10)]).toEqual(Array(20).fill(9));
  await executable.close();
});

test('inputs are parts of larger arrays too, and stay as they are', async () => {
  const flat = numbers(32 * 64 + 6, 7);
  const before = flat.slice();
  const { y } = await runOn(engine, linear('f32'), { x: flat.subarray(6) });
  const { y: expected } = await runOn(engine, linear('f32'), { x: flat.slice(6) });
  expect(y).toEqual(expected);
  expect(flat).toEqual(before);
});

test('an output may be an input, a constant, a weight, or given twice', async () => {
  const program: Program = {
    name: 'passing',
    inputs: { x: { shape: [2], dtype: 'int32' }, unused: { shape: [1], dtype: 'bool' } },
    weights: { w: weights.odd! },
    run({ x }, { w }) {
      const sum = x!.add(tf.scalar(1, 'int32'));
      return { x: x!, constant: tf.tensor1d([4, 5]), w: w!, one: sum, two: sum };
    },
  };
  const outputs = await runOn(engine, program, { x: Int32Array.of(1, 2), unused: new Uint8Array(1) });
  expect(outputs).toEqual({
    x: Int32Array.of(1, 2),
    constant: Float32Array.of(4, 5),
    w: Float32Array.of(1, 2, 3),
    one: Int32Array.of(2, 3),
    two: Int32Array.of(2, 3),
  });
});

const training = programOf('training', [f32([256, 128]), f32([128, 128], 2)], (x: Tensor, w: Tensor) => {
  const loss = (w: Tensor) => tf.softmax(product(x, w)).square().sum();
  const { value, grads } = tf.valueAndGrads(loss as never)([w]);
  return [value, grads[0]!];
});

test('the same inputs give the same bits, in every run and in every session', async () => {
  const first = await runOn(engine, training.program, training.inputs);
  const executable = await engine.compile(training.program);
  for (let i = 0; i < 20; i++) expect(await executable.run(training.inputs)).toEqual(first);
  await executable.close();
});

test('how much memory is free at the moment changes no bit', async () => {
  const file = join(await mkdtemp(join(tmpdir(), 'engine-')), 'weights.safetensors');
  const [rows, inner, columns] = [112, 192, 512] as const;
  await writeSafetensors(file, {
    w: { dtype: 'F32', shape: [inner, columns], data: numbers(inner * columns) },
  });
  const { tensors } = await readHeader(file);
  const program: Program = {
    name: 'product',
    inputs: { x: { shape: [rows, inner], dtype: 'float32' } },
    weights: { w: tensors.w! },
    run: ({ x }, { w }) => ({ y: tf.matMul(x as never, w as never) }),
  };
  const results: Buffer[] = [];
  for (const free of [0, 1e12]) {
    const freemem = vi.spyOn(os, 'freemem').mockReturnValue(free);
    syncBuiltinESMExports();
    const { y } = await runOn(engine, program, { x: numbers(rows * inner) });
    results.push(Buffer.from(y!.buffer as ArrayBuffer));
    freemem.mockRestore();
    syncBuiltinESMExports();
  }
  expect(results[0]!.equals(results[1]!)).toBe(true);
});

const megabytes = () => process.memoryUsage.rss() / 2 ** 20;

test('memory does not grow with runs', async () => {
  const executable = await engine.compile(training.program);
  const into = { 1: new Float32Array(128 * 128) };
  for (let i = 0; i < 300; i++) await executable.run(training.inputs, into);
  const before = megabytes();
  for (let i = 0; i < 2000; i++) await executable.run(training.inputs, into);
  // One kept [256, 128] array a run would be 250 MB.
  expect(megabytes() - before).toBeLessThan(60);
  await executable.close();
});

test('closing frees what compiling took', async () => {
  const big = programOf('big', [f32([512, 1024])], (x: Tensor) => {
    const values = numbers(1024 * 1024);
    return product(x, tf.tensor2d(values, [1024, 1024]));
  });
  for (let i = 0; i < 4; i++) await runOn(engine, big.program, big.inputs);
  const before = megabytes();
  for (let i = 0; i < 25; i++) await runOn(engine, big.program, big.inputs);
  // Its constant and its prepacked copy alone are 8 MB, 200 MB for all.
  expect(megabytes() - before).toBeLessThan(100);
});

test.each([
  ['a missing input', {}, "input 'x' is missing"],
  ['an unknown input', { x: new Float32Array(2048), z: new Float32Array(1) }, "has no 'z'"],
  ['a wrong type', { x: new Int32Array(2048) }, "input 'x' must be a Float32Array, got Int32Array"],
  ['a wrong length', { x: new Float32Array(7) }, "input 'x' must hold 2048 numbers ([32,64]), got 7"],
])('%s is refused', async (_name, inputs, message) => {
  const executable = await engine.compile(linear('f32'));
  await expect(executable.run(inputs as never)).rejects.toThrow(message);
  await executable.close();
});

test('a wrong output array is refused', async () => {
  const executable = await engine.compile(linear('f32'));
  const inputs = { x: numbers(32 * 64) };
  await expect(executable.run(inputs, { y: new Float32Array(1) })).rejects.toThrow("output 'y' must hold");
  await expect(executable.run(inputs, { w: new Float32Array(1) })).rejects.toThrow("has no 'w'");
  await executable.close();
});
