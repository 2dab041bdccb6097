// Measures how fast an engine multiplies matrices: an upper bound for the speed of a training step.
import { ProgramError } from './arrays.ts';
import type { Engine } from './program.ts';
import { tf } from './tf.ts';

/** Matrix sizes: large enough to saturate the device; on a CPU as small as a quick measurement allows. */
const SIZES: Record<string, number> = { cpu: 1024, webgpu: 2048, cuda: 4096 };
/** Chained products per run, so that transfers to and from the device are negligible. */
const PRODUCTS = 8;
const RUNS = 3;

export interface ProductRate {
  readonly flopsPerSecond: number;
  /** Rows and columns of the matrices. */
  readonly size: number;
}

/** The rate of the fastest run. Throws when a product is wrong. */
export async function measureProductRate(engine: Engine): Promise<ProductRate> {
  const size = SIZES[engine.device]!;
  const executable = await engine.compile({
    name: 'product-rate',
    inputs: { x: { shape: [size, size], dtype: 'float32' } },
    weights: {},
    run({ x }) {
      let y = x!;
      for (let i = 0; i < PRODUCTS; i++) y = tf.matMul(y as never, x as never);
      return { y: tf.mean(y) };
    },
  });
  const x = new Float32Array(size * size).fill(1 / size);
  let seconds = Number.POSITIVE_INFINITY;
  for (let run = 0; run <= RUNS; run++) {
    const begun = performance.now();
    const { y } = await executable.run({ x });
    const took = (performance.now() - begun) / 1000;
    if (Math.abs(y![0]! * size - 1) > 1e-3)
      throw new ProgramError(`products on ${engine.device} are wrong: ${y![0]! * size} instead of 1`);
    if (run > 0) seconds = Math.min(seconds, took); // the first one is for warming up
  }
  await executable.close();
  return { flopsPerSecond: (2 * size ** 3 * PRODUCTS) / seconds, size };
}
