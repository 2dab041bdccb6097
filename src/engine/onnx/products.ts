// Matrix products in ONNX: the nodes that compute one, by provider and precision.
import { CONTRIB, type Lowering, type Precision, type Provider } from './lowering.ts';

export interface Product {
  /** Number of axes of each operand; all but the last two are batch axes. */
  readonly ranks: readonly [number, number];
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly alpha?: number;
  /** Lengths of the result's last two axes; absent: unknown. */
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

/** A single node. WebGPU has no kernel for it (ONNX Runtime 1.30), and would run it on the CPU. */
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

/** a b^T computed as (b a^T)^T. */
const matrixFirst: Multiply = (to, [a, b], { alpha }, outputs) => {
  const product = fused(to, [b, a], { ranks: [2, 2], transposeB: true, alpha });
  return to.emit('Transpose', [product], { attributes: { perm: { ints: [1, 0] } }, outputs });
};

/** A single row has its own kernel in ONNX Runtime; from some number of rows on, packing is a small part. */
const FEW_ROWS = { least: 2, most: 64 };
/** With fewer columns per row the second operand is not a large matrix. */
const COLUMNS_FOR_A_ROW = 8;

/**
 * ONNX Runtime on the CPU reads its first operand in place and packs the second, at every run unless it is a weight
 * that the program has a packed copy of. With few rows and a large matrix, the matrix is better as the first operand.
 * Measured on two cores with a shared 3072 x 768 matrix: 32 rows 1.2 ms unswapped, 0.65 ms swapped; 8 rows 0.8 and 0.47
 * ms.
 */
function isBetterTurned(to: Lowering, product: Product): boolean {
  const { ranks, transposeA = false, transposeB = false, size } = product;
  if (!to.sharedWeights || to.provider !== 'cpu' || !size || transposeA || !transposeB) return false;
  const [rows, columns] = size;
  const few = rows >= FEW_ROWS.least && rows <= FEW_ROWS.most && columns >= COLUMNS_FOR_A_ROW * rows;
  return few && ranks.every(rank => rank === 2);
}

/**
 * One row per batch entry, as in decoding: ONNX Runtime's kernel for that does not take alpha, so the operand is scaled
 * instead. Scores of 32 rows, 12 heads, 128 keys of 64 elements, 12 layers: 8.7 ms with alpha, 5.9 ms without.
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

/** Plain MatMul where possible: ONNX Runtime fuses more around it. */
const inOwnType: Multiply = (to, factors, product, outputs) =>
  product.transposeA || product.transposeB || (product.alpha ?? 1) !== 1
    ? MULTIPLY[to.provider](to, factors, product, outputs)
    : to.emit('MatMul', factors, { outputs });

/**
 * Operands and result in bfloat16, accumulated in float32, as in PyTorch's autocast. ONNX Runtime multiplies bfloat16
 * only on CUDA; elsewhere the same roundings surround a float32 product, so that tests can see their effect.
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

/** A product of two matrices plus a term; the sum is float32 in every precision. */
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

/** Call before a loop whose body multiplies by `factor`, so that it is converted once and not in every iteration. */
export function prepareFactor(to: Lowering, factor: string): void {
  if (to.precision !== 'float32') to.half(factor);
}
