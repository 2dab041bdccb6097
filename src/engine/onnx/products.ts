// A matrix product in ONNX: which nodes compute it on which device, and in which precision. Which products there are is the matter of the rules.
import { CONTRIB, type Lowering, type Precision, type Provider } from './lowering.ts';

export interface Product {
  /** How many axes each factor has; those before the last two are a batch. */
  readonly ranks: readonly [number, number];
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly alpha?: number;
  /** Of the last two axes of the result; absent: unknown. */
  readonly size?: readonly [rows: number, columns: number];
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

/** a b^T as the transpose of b a^T. */
const matrixFirst: Multiply = (to, [a, b], { alpha }, outputs) => {
  const product = fused(to, [b, a], { ranks: [2, 2], transposeB: true, alpha });
  return to.emit('Transpose', [product], { attributes: { perm: { ints: [1, 0] } }, outputs });
};

/** One row has a way of its own in ONNX Runtime, which rearranges nothing; from some number on rearranging is a small part. */
const FEW_ROWS = { least: 2, most: 64 };
/** With fewer columns for each row the second factor is no large matrix. */
const COLUMNS_FOR_A_ROW = 8;

/**
 * ONNX Runtime on the processor reads its first factor as it lies and rearranges the second, at every run unless that is a weight which
 * the program has a copy of. Of few rows and a large matrix the matrix had better be the first. Measured on two cores, 3072 x 768 that
 * many programs share: 32 rows 1.2 ms as they are, 0.65 ms so; 8 rows 0.8 and 0.47 ms.
 */
function isBetterTurned(to: Lowering, product: Product): boolean {
  const { ranks, transposeA = false, transposeB = false, size } = product;
  if (!to.sharedWeights || to.provider !== 'cpu' || !size || transposeA || !transposeB) return false;
  const [rows, columns] = size;
  const few = rows >= FEW_ROWS.least && rows <= FEW_ROWS.most && columns >= COLUMNS_FOR_A_ROW * rows;
  return few && ranks.every(rank => rank === 2);
}

/**
 * One row of each product in a batch, as a new token's query has it: ONNX Runtime has a kernel for that which knows no factor. Scores of 32 rows
 * of 12 heads with 128 keys of 64, for 12 layers: 8.7 ms with a factor, 5.9 ms without.
 */
function isOneRowWithFactor({ sharedWeights }: Lowering, { size, alpha = 1, transposeA = false }: Product) {
  return sharedWeights && alpha !== 1 && !transposeA && size?.[0] === 1;
}

const rowFirst: Multiply = (to, [a, b], product, outputs) => {
  const scaled = to.emit('Mul', [a, to.scalar('float32', product.alpha!)]);
  return fused(to, [scaled, b], { ...product, alpha: 1 }, outputs);
};

const onProcessor: Multiply = (to, factors, product, outputs) => {
  if (isOneRowWithFactor(to, product)) return rowFirst(to, factors, product, outputs);
  return (isBetterTurned(to, product) ? matrixFirst : fused)(to, factors, product, outputs);
};

const MULTIPLY: Record<Provider, Multiply> = { cpu: onProcessor, cuda: fused, webgpu: inParts };

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
  if (to.precision !== 'float32' || isBetterTurned(to, product))
    return to.emit('Add', [multiply(to, factors, product), term], { outputs });
  const attributes = { ...attributesOf(product), beta: { float: 1 } };
  return to.emit('Gemm', [...factors, term], { attributes, outputs });
}

/** Before a loop whose body multiplies by `factor`: it is then converted once, not in every round. */
export function prepareFactor(to: Lowering, factor: string): void {
  if (to.precision !== 'float32') to.half(factor);
}
