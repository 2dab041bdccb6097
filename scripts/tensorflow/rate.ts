// Multiplies matrices on the `tensorflow` engine and prints device, version and rate as JSON: `node scripts/tensorflow/rate.ts cpu|cuda`.
// Fails on a wrong product or another device. Run by setup-tensorflow.ts.
import { openEngine } from '../../src/engine/engine.ts';
import { measureProductRate } from '../../src/engine/product-rate.ts';
import type { Engine } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';

async function check(engine: Engine): Promise<void> {
  const { run, close } = await engine.compile({
    name: 'check',
    inputs: { x: { shape: [2, 2], dtype: 'float32' } },
    weights: {},
    run: ({ x }) => ({ product: tf.matMul(x as never, x as never) }),
  });
  const { product } = await run({ x: Float32Array.of(1, 2, 3, 4) });
  if (String(product) !== '7,10,15,22') throw new Error(`[1 2; 3 4] squared came out as ${product}`);
  await close();
}

const device = process.argv[2] === 'cuda' ? 'cuda' : 'cpu';
const engine = await openEngine({ engine: 'tensorflow', device, threads: 0 });
await check(engine);
const { binding } = tf.findBackend('tensorflow') as unknown as { binding: { TF_Version: string } };
const { flopsPerSecond, size } = await measureProductRate(engine);
const gflops = Math.round(flopsPerSecond / 1e9);
console.log(JSON.stringify({ device: engine.device, tensorflow: binding.TF_Version, gflops, size }));
