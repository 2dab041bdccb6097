// Products with quantised weights: every engine multiplies by what the codes stand for, forward and backward, and int8 and
// int16 on the `onnx` engine are as near as whole numbers come.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { HALF_RANGE, measureIntegerRange, WHOLE_RANGE } from '../../src/engine/onnx/integers.ts';
import { type OnnxOptions, onnxEngine } from '../../src/engine/onnx.ts';
import { crossEntropySums, tokenLosses } from '../../src/engine/ops.ts';
import { PASSES } from '../../src/engine/passes.ts';
import type { Engine, HostArrays, Program, StoredTensor } from '../../src/engine/program.ts';
import { openTensorflowEngine } from '../../src/engine/tensorflow.ts';
import { tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';
import { tf } from '../../src/engine/tf.ts';
import type { Quantization } from '../../src/formats/quantization.ts';
import { readHeader, writeSafetensors } from '../../src/formats/safetensors.ts';
import { quantizeMatrices, withScoring } from '../../src/models/quantized-weights.ts';
import { measurePeakBytes } from '../../src/training/memory.ts';
import { numbers, runOn } from './programs.ts';

const ROWS = 32;
const [OUT, IN] = [96, 128];
const KINDS: Quantization[] = ['int16', 'int8', 'int4', 'nf4'];
const quantized = {} as Record<Quantization, StoredTensor>;
let full: StoredTensor;

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quantized-'));
  const file = join(folder, 'weights.safetensors');
  // Outputs of very different size.
  const data = numbers(OUT * IN).map((number, i) => number * 10 ** -(Math.floor(i / IN) % 3));
  await writeSafetensors(file, { w: { dtype: 'BF16', shape: [OUT, IN], data } });
  const { tensors } = await readHeader(file);
  full = tensors.w!;
  for (const kind of KINDS) quantized[kind] = (await quantizeMatrices(tensors, kind, folder)).w!;
});

const product = (a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor =>
  tf.matMul(a as never, b as never, transposeA, transposeB);

/** Everything that a frozen weight is used for. */
const programWith = (w: StoredTensor): Program => ({
  name: 'uses',
  inputs: {
    x: { shape: [ROWS, IN], dtype: 'float32' },
    bias: { shape: [OUT], dtype: 'float32' },
  },
  weights: { w },
  run({ x, bias }, { w }) {
    const forward = product(x!, w!, false, true);
    const scaled = product(x!.mul(0.5), w!, false, true).add(bias!);
    const loss = (x: Tensor) => product(x, w!, false, true).add(bias!).square().sum();
    return { forward, scaled, gradient: tf.grad(loss as never)(x!) };
  },
});

/** Rows of very different size, as gradients of tokens are; one of zeros. */
const inputs: HostArrays = {
  x: numbers(ROWS * IN, 7).map((number, i) => number * (i < IN ? 0 : 10 ** -(i % 3))),
  bias: numbers(OUT, 8),
};

const distance = (a: Float32Array, b: Float32Array): number =>
  Math.hypot(...a.map((number, i) => number - b[i]!)) / Math.hypot(...b);

/** Of the output that is furthest off, as a part of its size. */
const distances = (found: HostArrays, expected: HostArrays): number =>
  Math.max(
    ...Object.keys(expected).map(name =>
      distance(found[name] as Float32Array, expected[name] as Float32Array),
    ),
  );

const onnx = (options: Partial<OnnxOptions> = {}): Engine =>
  onnxEngine({ provider: 'cpu', threads: 2, passes: PASSES, profile: null, ...options });

async function enginesInFloats(): Promise<Engine[]> {
  const engines = [onnx({ integers: null }), onnx({ integers: null, passes: [] })];
  if (tensorflowIsSetUp())
    engines.push(await openTensorflowEngine({ engine: 'tensorflow', device: 'cpu', threads: 2 }));
  return engines;
}

test.each(KINDS)('%s: engines that compute in float32 agree on what the codes stand for', async kind => {
  const program = programWith(quantized[kind]);
  const expected = await runOn(await openCpuEngine(), program, inputs);
  for (const engine of await enginesInFloats())
    expect(distances(await runOn(engine, program, inputs), expected)).toBeLessThan(1e-5);
});

describe.each([
  ['int8', 'whole', WHOLE_RANGE, 0.012],
  ['int8', 'half', HALF_RANGE, 0.02],
  ['int16', 'whole', WHOLE_RANGE, 1e-4],
] as const)('%s in the %s range', (kind, _range, integers, most) => {
  test('is near the product of full numbers, rows and columns of any size alike', async () => {
    const expected = await runOn(await openCpuEngine(), programWith(full), inputs);
    const found = await runOn(onnx({ integers }), programWith(quantized[kind]), inputs);
    expect(distances(found, expected)).toBeLessThan(most);
    expect(found.forward!.subarray(0, OUT)).toEqual(new Float32Array(OUT));
  });

  test('says that a number is none', async () => {
    const broken = { ...inputs, x: inputs.x!.slice() };
    broken.x![IN] = Number.NaN;
    const { forward } = await runOn(onnx({ integers }), programWith(quantized[kind]), broken);
    expect(forward!.subarray(OUT, 2 * OUT).every(Number.isNaN)).toBe(true);
    expect(forward!.subarray(2 * OUT).some(Number.isNaN)).toBe(false);
  });
});

test('int16 is multiplied in float32 where digits do not have the whole range', async () => {
  const [inFloats, inHalf] = await Promise.all(
    [null, HALF_RANGE].map(integers => runOn(onnx({ integers }), programWith(quantized.int16), inputs)),
  );
  expect(inHalf).toEqual(inFloats);
});

test('a processor has one of the two ranges', async () => {
  expect([WHOLE_RANGE, HALF_RANGE]).toContainEqual(await measureIntegerRange(1));
});

test('an output layer scores in int16 and is near the full one, in losses and gradients', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quantized-'));
  const { w } = await withScoring({ w: full }, 'w', folder);
  const losses: Program = {
    name: 'losses',
    inputs: { x: { shape: [ROWS, IN], dtype: 'float32' }, targets: { shape: [ROWS], dtype: 'int32' } },
    weights: { w: w! },
    run({ x, targets }, { w }) {
      const lossOf = (x: Tensor) => crossEntropySums(x, w!, targets!).lossSum;
      const each = tokenLosses(x!, { weight: w! }, targets!);
      return { loss: lossOf(x!), each, gradient: tf.grad(lossOf as never)(x!) };
    },
  };
  const given = {
    x: numbers(ROWS * IN, 7),
    targets: Int32Array.from({ length: ROWS }, (_, i) => (i % 4 === 0 ? -1 : i)),
  };
  const inFloats = await runOn(onnx({ integers: null }), losses, given);
  expect(distances(inFloats, await runOn(await openCpuEngine(), losses, given))).toBeLessThan(1e-5);
  const found = await runOn(onnx({ integers: WHOLE_RANGE }), losses, given);
  expect(found.each).not.toEqual(inFloats.each);
  expect(distances(found, inFloats)).toBeLessThan(1e-4);
});

test.each(KINDS)('%s: single rows are those of the full weight, on the `onnx` engine', async kind => {
  const program: Program = {
    name: 'rows',
    inputs: { rows: { shape: [4], dtype: 'int32' } },
    weights: { w: quantized[kind] },
    run: ({ rows }, { w }) => ({ y: tf.gather(w!, rows as never) }),
  };
  const given = { rows: Int32Array.of(95, 0, 7, 7) };
  const expected = await runOn(await openCpuEngine(), { ...program, weights: { w: full } }, given);
  expect(await runOn(onnx(), program, given)).toEqual(expected);
});

/** Layers one after the other, forward and backward, with weights that are too large to be kept widened. */
test.each(['BF16', ...KINDS] as const)('%s weights are made float32 one at a time', async stored => {
  const [layers, width] = [16, 1024];
  const folder = await mkdtemp(join(tmpdir(), 'quantized-'));
  const file = join(folder, 'weights.safetensors');
  const names = Array.from({ length: layers }, (_, i) => `w${i}`);
  const data = numbers(width * width).map(number => number / 32);
  const tensor = { dtype: 'BF16', shape: [width, width], data } as const;
  await writeSafetensors(file, Object.fromEntries(names.map(name => [name, tensor])));
  const { tensors } = await readHeader(file);
  const weights = stored === 'BF16' ? tensors : await quantizeMatrices(tensors, stored, folder);
  const deep = await onnx({ integers: null }).compile({
    name: 'deep',
    inputs: { x: { shape: [8, width], dtype: 'float32' } },
    weights,
    sharesWeights: true,
    run({ x }, w) {
      const loss = (x: Tensor) =>
        names.reduce((x, name) => product(x, w[name]!, false, true).tanh(), x).sum();
      return { gradient: tf.grad(loss as never)(x!) };
    },
  });
  const given = { x: numbers(8 * width) };
  const bytes = await measurePeakBytes(async () => {
    await deep.run(given);
    await deep.run(given);
  });
  await deep.close();
  expect(bytes).toBeLessThan((4 * layers * width * width) / 2);
});
