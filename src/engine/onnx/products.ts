// A matrix product in ONNX: which nodes compute it on which device, and in which precision. Which products there are is the matter of the rules.
import { CONTRIB, type Lowering, type Precision, type Provider } from './lowering.ts';

export interface Product {
  /** How many axes each factor has; those before the last two are a batch. */
  readonly ranks: readonly [number, number];
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly alpha?: number;
}

type Multiply = (
  to: Lowering,
  factors: readonly [string, string],
  product: Product,
  outputs?: readonly string[],
) => string;

const attributesOf = ({ transposeA, transposeB, alpha = 1 }: Product) => ({
  transA: { int: Number(transposeA ?? false) },
  transB: { int: Number(transposeB ?? false) },
  alpha: { float: alpha },
});

/** One node for everything, which WebGPU has no kernel for (ONNX Runtime 1.30): it would go to the processor and back. */
const fused: Multiply = (to, factors, product, outputs) =>
  to.emit('FusedMatMul', factors, { domain: CONTRIB, attributes: attributesOf(product), outputs });

function swapLastAxes(to: Lowering, x: string, rank: number): string {
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  const perm = [...axes.slice(0, -2), rank - 1, rank - 2];
  return to.emit('Transpose', [x], { attributes: { perm: { ints: perm } } });
}

const inParts: Multiply = (to, [a, b], product, outputs) => {
  const { ranks, transposeA, transposeB, alpha = 1 } = product;
  if (ranks[0] === 2 && ranks[1] === 2)
    return to.emit('Gemm', [a, b], { attributes: attributesOf(product), outputs });
  const left = transposeA ? swapLastAxes(to, a, ranks[0]) : a;
  const right = transposeB ? swapLastAxes(to, b, ranks[1]) : b;
  if (alpha === 1) return to.emit('MatMul', [left, right], { outputs });
  return to.emit('Mul', [to.emit('MatMul', [left, right]), to.scalar('float32', alpha)], { outputs });
};

const MULTIPLY: Record<Provider, Multiply> = { cpu: fused, cuda: fused, webgpu: inParts };

/** Plain MatMul where that is all there is: ONNX Runtime fuses more around it. */
const inOwnType: Multiply = (to, factors, product, outputs) =>
  product.transposeA || product.transposeB || (product.alpha ?? 1) !== 1
    ? MULTIPLY[to.provider](to, factors, product, outputs)
    : to.emit('MatMul', factors, { outputs });

/**
 * Factors and result in bfloat16, added up in float32 in between, as PyTorch's autocast has it. ONNX Runtime multiplies bfloat16 on CUDA
 * alone; elsewhere the same roundings stand around a product in float32, so that tests can see what they do.
 */
const inHalves: Multiply = (to, [a, b], product, outputs) => {
  const halves = [to.half(a), to.half(b)] as const;
  if (to.provider === 'cuda') return to.cast(inOwnType(to, halves, product), 'float32', outputs);
  const rounded = [to.cast(halves[0], 'float32'), to.cast(halves[1], 'float32')] as const;
  return to.cast(to.cast(inOwnType(to, rounded, product), 'bfloat16'), 'float32', outputs);
};

const IN_PRECISION: Record<Precision, Multiply> = { float32: inOwnType, bfloat16: inHalves };

export const multiply: Multiply = (to, factors, product, outputs) =>
  IN_PRECISION[to.precision](to, factors, product, outputs);

/** A product of two axes and a term; the sum is float32 in every precision. */
export function multiplyAdd(
  to: Lowering,
  factors: readonly [string, string],
  term: string,
  product: Product,
  outputs?: readonly string[],
): string {
  if (to.precision !== 'float32') return to.emit('Add', [multiply(to, factors, product), term], { outputs });
  const attributes = { ...attributesOf(product), beta: { float: 1 } };
  return to.emit('Gemm', [...factors, term], { attributes, outputs });
}

/** Before a loop whose body multiplies by `factor`: it is then converted once, not in every round. */
export function prepareFactor(to: Lowering, factor: string): void {
  if (to.precision !== 'float32') to.half(factor);
}
