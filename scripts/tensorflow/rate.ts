// Multiplies matrices on the `tensorflow` engine and prints device, version and rate as JSON: `node scripts/tensorflow/rate.ts cpu|cuda`.
// It fails where a product is wrong or the device is another one. Run by setup-tensorflow.ts.
import { performance } from 'node:perf_hooks';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';

const PRODUCTS = 16;
const SIZES = { cpu: 1024, cuda: 4096 } as const;

/** x -> x y y ... y */
async function multiply(engine: Engine, products: number, size: number) {
  const square = { shape: [size, size], dtype: 'float32' } as const;
  return engine.compile({
    name: 'rate',
    inputs: { x: square, y: square },
    weights: {},
    run({ x, y }) {
      let product = x!;
      for (let i = 0; i < products; i++) product = tf.matMul(product as never, y as never);
      return { product };
    },
  });
}

async function check(engine: Engine): Promise<void> {
  const { run, close } = await multiply(engine, 1, 2);
  const { product } = await run({ x: Float32Array.of(1, 2, 3, 4), y: Float32Array.of(5, 6, 7, 8) });
  if (String(product) !== '19,22,43,50') throw new Error(`[1 2; 3 4] [5 6; 7 8] came out as ${product}`);
  await close();
}

async function rate(engine: Engine, size: number): Promise<number> {
  const { run, close } = await multiply(engine, PRODUCTS, size);
  const inputs = { x: new Float32Array(size ** 2).fill(1), y: new Float32Array(size ** 2).fill(1 / size) };
  let seconds = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await run(inputs);
    seconds = Math.min(seconds, (performance.now() - start) / 1000);
  }
  await close();
  return Math.round((PRODUCTS * 2 * size ** 3) / seconds / 1e9);
}

const device = process.argv[2] === 'cuda' ? 'cuda' : 'cpu';
const engine = await openEngine({ engine: 'tensorflow', device, threads: 0 });
await check(engine);
const { binding } = tf.findBackend('tensorflow') as unknown as { binding: { TF_Version: string } };
const size = SIZES[device];
const gflops = await rate(engine, size);
console.log(JSON.stringify({ device: engine.device, tensorflow: binding.TF_Version, gflops, size }));
