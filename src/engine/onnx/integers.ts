// Finds out, by a small product, how large integer codes may be for this CPU to accumulate their products exactly.
import type { OnnxModel } from '../../formats/onnx.ts';
import { CONTRIB } from './lowering.ts';
import { openSession } from './session.ts';

/** Rows are stored as uint8: `zero` plus a number from -levels to levels. */
export interface IntegerRange {
  readonly levels: number;
  readonly zero: number;
}

export const WHOLE_RANGE: IntegerRange = { levels: 127, zero: 128 };
/**
 * CPUs without VNNI add pairs of u8 * s8 products in 16 bits, which saturate; twice 127 * 127 is just below the limit.
 * https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#when-and-why-do-i-need-to-try-u8u8
 */
export const HALF_RANGE: IntegerRange = { levels: 63, zero: 64 };

const [M, K, N] = [8, 64, 16];

/** y [m, n] = x [m, k] times a matrix of 127s. */
const PROBE: OnnxModel = {
  graph: {
    name: 'integers',
    inputs: [{ name: 'x', type: 'uint8', shape: [M, K] }],
    outputs: [{ name: 'y', type: 'int32', shape: [M, N] }],
    initializers: [{ name: 'w', type: 'int8', shape: [K, N], data: new Uint8Array(K * N).fill(127) }],
    nodes: [{ op: 'MatMulInteger', domain: '', inputs: ['x', 'w'], outputs: ['y'], attributes: {} }],
  },
  opsets: { '': 20, [CONTRIB]: 1 },
};

/** The whole range if the largest codes are accumulated exactly, else half of it. */
export async function measureIntegerRange(threads: number): Promise<IntegerRange> {
  const options = { provider: 'cpu', threads, prepack: true, widenOnce: true, profile: null } as const;
  const session = await openSession(PROBE, '/', options);
  const y = new Int32Array(M * N);
  await session.run({ x: new Uint8Array(M * K).fill(255) }, { y });
  await session.close();
  return y.every(sum => sum === 255 * 127 * K) ? WHOLE_RANGE : HALF_RANGE;
}
