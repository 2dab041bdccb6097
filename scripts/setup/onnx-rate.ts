// Multiplies matrices on a device of the `onnx` engine and prints the rate: `node scripts/setup/onnx-rate.ts cuda|webgpu|cpu`.
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { Device } from '../../src/engine/engine.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { tf } from '../../src/engine/tf.ts';

const SIZE = 2048;
/** Products in one run, each of the one before: what goes over to the device and back is little beside them. */
const PRODUCTS = 16;
const RUNS = 5;

const { positionals } = parseArgs({ allowPositionals: true });
const device = (positionals[0] ?? 'cuda') as Device;
const engine = await openEngine({ engine: 'onnx', device, threads: availableParallelism() });
const executable = await engine.compile({
  name: 'rate',
  inputs: { x: { shape: [SIZE, SIZE], dtype: 'float32' } },
  weights: {},
  run({ x }) {
    let y = x!;
    for (let i = 0; i < PRODUCTS; i++) y = tf.matMul(y as never, x as never);
    return { y: tf.mean(y) };
  },
});
const x = new Float32Array(SIZE * SIZE).fill(1 / SIZE);
const { y } = await executable.run({ x });
if (Math.abs(y![0]! * SIZE - 1) > 1e-3) throw new Error(`a product is wrong: ${y![0]! * SIZE} instead of 1`);
const began = performance.now();
for (let i = 0; i < RUNS; i++) await executable.run({ x });
const seconds = (performance.now() - began) / 1000;
const rate = (2 * SIZE ** 3 * PRODUCTS * RUNS) / seconds / 1e9;
process.stdout.write(`${Math.round(rate)} GFLOP/s in products of ${SIZE} x ${SIZE} matrices on ${device}\n`);
