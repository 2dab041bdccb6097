// How large the whole numbers of a product may be for this processor to add them up exactly. It is measured, by a small product.
import type { OnnxModel } from '../../formats/onnx.ts';
import { CONTRIB } from './lowering.ts';
import { openSession } from './session.ts';

/** Rows are held as `zero` plus a number from -levels to levels, in eight bits without a sign. */
export interface IntegerRange {
  readonly levels: number;
  readonly zero: number;
}

export const WHOLE_RANGE: IntegerRange = { levels: 127, zero: 128 };
/**
 * Processors without VNNI add products of u8 and s8 by pairs in 16 bits, which saturate: two times 127 * 127 is just below.
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

/** The whole range where the largest codes are added up exactly, else the half of it. */
export async function measureIntegerRange(threads: number): Promise<IntegerRange> {
  const options = { provider: 'cpu', threads, prepack: true, widenOnce: true, profile: null } as const;
  const session = await openSession(PROBE, '/', options);
  const y = new Int32Array(M * N);
  await session.run({ x: new Uint8Array(M * K).fill(255) }, { y });
  await session.close();
  return y.every(sum => sum === 255 * 127 * K) ? WHOLE_RANGE : HALF_RANGE;
}
