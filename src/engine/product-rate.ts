// How fast an engine multiplies matrices on its device: what a step of training is at most as fast as.
import { ProgramError } from './arrays.ts';
import type { Engine } from './program.ts';
import { tf } from './tf.ts';

/** Large enough for the device to be busy; on a processor as small as a quick look allows. */
const SIZES: Record<string, number> = { cpu: 1024, webgpu: 2048, cuda: 4096 };
/** In one run, each of the one before: what goes over to the device and back is little beside them. */
const PRODUCTS = 8;
const RUNS = 3;

export interface ProductRate {
  readonly flopsPerSecond: number;
  /** Rows and columns of the matrices. */
  readonly size: number;
}

/** Of the fastest run. Throws where a product is wrong. */
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
