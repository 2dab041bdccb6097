// Multiplies matrices on a device of the `onnx` engine and prints the rate: `node scripts/setup/onnx-rate.ts cuda|webgpu|cpu`.
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { Device } from '../../src/engine/engine.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { measureProductRate } from '../../src/engine/product-rate.ts';

const { positionals } = parseArgs({ allowPositionals: true });
const device = (positionals[0] ?? 'cuda') as Device;
const engine = await openEngine({ engine: 'onnx', device, threads: availableParallelism() });
const { flopsPerSecond, size } = await measureProductRate(engine);
process.stdout.write(
  `${Math.round(flopsPerSecond / 1e9)} GFLOP/s in products of ${size} x ${size} matrices on ${device}\n`,
);
