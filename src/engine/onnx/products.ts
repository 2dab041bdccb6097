// A matrix product in ONNX: which nodes compute it on which device. Which products there are is the matter of the rules.
import { CONTRIB, type Lowering, type Provider } from './lowering.ts';

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
export const multiply: Multiply = (to, factors, product, outputs) =>
  product.transposeA || product.transposeB || (product.alpha ?? 1) !== 1
    ? MULTIPLY[to.provider](to, factors, product, outputs)
    : to.emit('MatMul', factors, { outputs });
