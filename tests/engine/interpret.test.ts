// Traced graphs run node by node on the plain TensorFlow.js backend: the same numbers, nothing left behind, weights held once.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { interpretingEngine } from '../../src/engine/interpret.ts';
import { crossEntropySums, rmsNorm, silu, softmaxAttention } from '../../src/engine/ops.ts';
import { PORTABLE_PASSES } from '../../src/engine/passes.ts';
import type { Program, StoredTensor } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import { readHeader, writeSafetensors } from '../../src/formats/safetensors.ts';
import { expectAlike, f32, i32, programOf, runOn } from './programs.ts';

const open = (passes = PORTABLE_PASSES) => interpretingEngine('interpreted', 'cpu', 'cpu', passes);

/** Loss and gradients of one small transformer layer. */
const layer = () =>
  programOf(
    'layer',
    [
      f32([1, 2, 4, 3]),
      f32([1, 1, 4, 3], 2),
      f32([1, 1, 4, 3], 3),
      f32([3], 4),
      f32([5, 3], 5),
      i32([8], [0, 4, -1, 2, 1, -1, 3, 3]),
    ],
    (query: Tensor, key: Tensor, value: Tensor, weight: Tensor, output: Tensor, targets: Tensor) => {
      const loss = (q: Tensor, k: Tensor, w: Tensor, o: Tensor) => {
        const attended = softmaxAttention(q, k, value, tf.zeros([1, 4, 4]), 0.5);
        return crossEntropySums(silu(rmsNorm(attended.reshape([8, 3]), w, 1e-5)), o, targets).lossSum;
      };
      const { value: sum, grads } = tf.valueAndGrads(loss as never)([query, key, weight, output]);
      return [sum, ...grads];
    },
  );

describe.each([
  ['no passes', []],
  ['its passes', PORTABLE_PASSES],
] as const)('with %s', (_, passes) => {
  test('loss and gradients are those of the program run directly', async () => {
    const { program, inputs } = layer();
    expectAlike(
      await runOn(open(passes), program, inputs),
      await runOn(await openCpuEngine(), program, inputs),
    );
  });

  test('a choice between a number and an array broadcasts the number', async () => {
    const { program, inputs } = programOf('where', [f32([2, 3]), f32([3], 2)], (x: Tensor, y: Tensor) => [
      tf.where(x.greater(0), x, tf.zerosLike(x)),
      tf.where(x.greater(0), y, tf.fill([2, 3], 7)),
    ]);
    expectAlike(
      await runOn(open(passes), program, inputs),
      await runOn(await openCpuEngine(), program, inputs),
    );
  });

  test('outputs may be inputs, constants or one another', async () => {
    const { program, inputs } = programOf('same', [f32([3])], (x: Tensor) => {
      const sum = x.add(1);
      return [x, tf.tensor1d([1, 2]), sum, sum, x.reshape([1, 3])];
    });
    expectAlike(
      await runOn(open(passes), program, inputs),
      await runOn(await openCpuEngine(), program, inputs),
    );
  });
});

test('a run changes no input and may be repeated', async () => {
  const { program, inputs } = layer();
  const before = structuredClone(inputs);
  const executable = await open().compile(program);
  const first = await executable.run(inputs);
  expect(await executable.run(inputs)).toEqual(first);
  expect(inputs).toEqual(before);
  await executable.close();
});

test('every tensor is freed after its last use, and a run leaves none', async () => {
  const { program, inputs } = programOf('chain', [f32([8])], (x: Tensor) => {
    let y = x;
    for (let i = 0; i < 100; i++) y = y.sin();
    return y;
  });
  const executable = await open().compile(program);
  const before = tf.memory().numTensors;
  const held: number[] = [];
  const runKernel = tf.engine().runKernel.bind(tf.engine());
  const spy = vi.spyOn(tf.engine(), 'runKernel').mockImplementation((...call) => {
    held.push(tf.memory().numTensors - before);
    return runKernel(...call);
  });
  await executable.run(inputs).finally(() => spy.mockRestore());
  expect(held.length).toBe(100);
  expect(Math.max(...held)).toBe(1);
  expect(tf.memory().numTensors).toBe(before);
  await executable.close();
});

describe('stored weights', () => {
  let directory: string;
  let weight: StoredTensor;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'anneal-interpret-'));
    const file = join(directory, 'model.safetensors');
    await writeSafetensors(file, { w: { dtype: 'F32', shape: [2], data: Float32Array.of(3, 4) } });
    weight = (await readHeader(file)).tensors.w!;
  });

  afterAll(() => rm(directory, { recursive: true }));

  const scaled = (factor: number): Program => ({
    name: `times ${factor}`,
    inputs: { x: { shape: [2], dtype: 'float32' } },
    weights: { w: weight },
    run: ({ x }, { w }) => ({ y: x!.mul(w!).mul(factor) }),
  });

  test('are held once for all programs, until the last one is closed', async () => {
    const engine = open();
    const before = tf.memory().numTensors;
    const held = () => tf.memory().numTensors - before;
    const first = await engine.compile(scaled(1));
    const alone = held();
    const second = await engine.compile(scaled(-1));
    const factors = held() - alone;
    expect([alone, factors]).toEqual([1, 1]);
    await first.close();
    expect(await second.run({ x: Float32Array.of(1, 2) })).toEqual({ y: Float32Array.of(-3, -8) });
    await second.close();
    expect(held()).toBe(0);
  });
});
