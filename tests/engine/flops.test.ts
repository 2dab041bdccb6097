// The arithmetic of programs, counted by hand: twice rows times columns times what is summed over, for every product.
import type { Tensor } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { programFlops } from '../../src/engine/flops.ts';
import { onnxEngine } from '../../src/engine/onnx.ts';
import { crossEntropySums, softmaxAttention } from '../../src/engine/ops.ts';
import { PASSES } from '../../src/engine/passes.ts';
import type { Program } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';

const [M, K, N] = [6, 10, 14];
/** Long enough for attention to keep no weights. Two heads share a key head: blocks of 128 queries see 128, 256, ... keys. */
const LONG = 1024;
const SCORES = 128 * 128 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8);
const float = (...shape: number[]) => ({ shape, dtype: 'float32' }) as const;
const program = (inputs: Program['inputs'], run: Program['run']): Program => ({
  name: 'counted',
  inputs,
  weights: {},
  run,
});
const product = (a: Tensor, b: Tensor, ...transposed: boolean[]): Tensor =>
  tf.matMul(a as never, b as never, ...transposed);

test.each<[string, Program, number]>([
  [
    'a product',
    program({ a: float(M, K), b: float(K, N) }, ({ a, b }) => ({ y: product(a!, b!) })),
    2 * M * K * N,
  ],
  [
    'one with both sides transposed, in a batch',
    program({ a: float(3, K, M), b: float(3, N, K) }, ({ a, b }) => ({ y: product(a!, b!, true, true) })),
    3 * 2 * M * K * N,
  ],
  [
    'an einsum',
    program({ a: float(2, M, K), b: float(K, N) }, ({ a, b }) => ({ y: tf.einsum('bmk,kn->bmn', a!, b!) })),
    2 * 2 * M * K * N,
  ],
  [
    'a product and its gradient for one side, where nothing reads the result itself',
    program({ a: float(M, K), b: float(K, N) }, ({ a, b }) => ({
      da: tf.grad(x => product(x, b!).sum())(a!),
    })),
    2 * M * K * N,
  ],
  [
    'a cross-entropy',
    program({ h: float(M, K), w: float(N, K), t: { shape: [M], dtype: 'int32' } }, ({ h, w, t }) => ({
      loss: crossEntropySums(h!, w!, t!).lossSum,
    })),
    2 * M * K * N,
  ],
  [
    'a cross-entropy with both gradients',
    program({ h: float(M, K), w: float(N, K), t: { shape: [M], dtype: 'int32' } }, ({ h, w, t }) => {
      const [dh, dw] = tf.grads((x, y) => crossEntropySums(x, y, t!).lossSum)([h!, w!]);
      return { dh: dh!, dw: dw! };
    }),
    3 * 2 * M * K * N,
  ],
  [
    'attention over long rows: scores and means, and back scores, slopes of weights, and three gradients',
    program({ q: float(1, 2, LONG, 4), k: float(1, 1, LONG, 4), mask: float(1, LONG, LONG) }, inputs => {
      const [q, k, mask] = Object.values(inputs) as [Tensor, Tensor, Tensor];
      const attend = (x: Tensor) => softmaxAttention(x, k, k, mask, 0.5, { causal: true });
      return { y: attend(q), dq: tf.grad(x => attend(x).sum())(q) };
    }),
    7 * 2 * SCORES * 4 * 2,
  ],
])('%s', async (_, counted, flops) => {
  expect(programFlops(counted)).toBe(flops);
  const engine = onnxEngine({ provider: 'cpu', threads: 1, passes: PASSES, profile: null });
  const executable = await engine.compile(counted);
  expect(executable.flops).toBe(flops);
  await executable.close();
});
