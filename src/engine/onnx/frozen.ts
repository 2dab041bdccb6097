// Frozen weights in an ONNX model: external data in their files, and the nodes that read them as stored (half precision
// or quantized), so that the full-precision copy of a weight exists only while it is used.
import { BLOCK_CODES, type ColumnQuantization, DIGITS, INT16_BASE } from '../../formats/quantization.ts';
import type { Graph, Node, Value } from '../graph.ts';
import type { OpName } from '../kernels.ts';
import type { QuantizedMatrix, StoredCodes, StoredColumns, StoredTensor } from '../program.ts';
import { type IntegerRange, WHOLE_RANGE } from './integers.ts';
import { CONTRIB, type Lowering } from './lowering.ts';
import { multiply } from './products.ts';
import { type QuantizedRows, quantizeRows, type RowForm } from './rows.ts';

export interface FrozenOptions {
  /** The name of a weight's file inside the model. */
  locate(file: string): string;
  /** Convert half precision once, when the session opens; otherwise at every use. */
  readonly widenOnce: boolean;
  /** Range for integer products; null: weights are stored quantized, but products are computed in float32. */
  readonly integers: IntegerRange | null;
}

/** Emits the nodes of an op that reads a frozen weight; returns false to leave it to the op's own rule. */
type FrozenRule = (frozen: Frozen, node: Node, y: readonly string[]) => boolean;

const STORED_TYPES = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I8: 'int8',
  U8: 'uint8',
} as const;

export class Frozen {
  readonly to: Lowering;
  readonly options: FrozenOptions;
  readonly #weights: Graph['weights'];
  readonly #initializers = new Map<string, string>();
  readonly #rows = new Map<string, QuantizedRows>();

  constructor(to: Lowering, weights: Graph['weights'], options: FrozenOptions) {
    this.to = to;
    this.options = options;
    this.#weights = weights;
    for (const [value, stored] of weights) to.provide(value, () => this.#named(stored));
  }

  stored(value: Value): StoredTensor | undefined {
    return this.#weights.get(value);
  }

  /** The initializer for a stored tensor, one for all readers. */
  initializer(stored: StoredTensor | StoredCodes): string {
    const { file, offset, sizeBytes, shape, dtype } = stored;
    const key = `${offset} ${sizeBytes} ${file}`;
    const known = this.#initializers.get(key);
    if (known !== undefined) return known;
    const name = this.to.fresh('w');
    const packed = 'packed' in stored ? stored.packed : undefined;
    const data = { location: this.options.locate(file), offset, sizeBytes, packed };
    this.to.initializers.push({ name, type: STORED_TYPES[dtype], shape, data });
    this.#initializers.set(key, name);
    return name;
  }

  #named(stored: StoredTensor): string {
    const name = this.#asFloat32(stored);
    const range = rangeFor('int16', this.options.integers);
    const { scoring: columns } = stored;
    if (columns && range)
      this.to.knowScoring(name, (to, rows) => scoresOf(this, to, rows, { columns, range, factor: 1 }));
    return name;
  }

  #asFloat32(stored: StoredTensor): string {
    const name = this.initializer(stored);
    if (stored.dtype === 'F32') return name;
    const key = `float32 ${name}`;
    const known = this.#initializers.get(key);
    if (known !== undefined) return known;
    const widen = () => this.to.cast(name, 'float32');
    const widened = this.options.widenOnce ? widen() : this.to.early(widen);
    if (this.options.widenOnce) this.#initializers.set(key, widened);
    if (stored.dtype === 'BF16') this.to.knowHalf(widened, name);
    return widened;
  }

  /** Quantizes each row of x [rows, n] with a scale of its own, once for all products with x. */
  quantizedRows(x: string, form: RowForm): QuantizedRows {
    const key = `${form.kind} ${x}`;
    const known = this.#rows.get(key);
    if (known) return known;
    const made = quantizeRows(this.to, x, form);
    this.#rows.set(key, made);
    return made;
  }
}

function lowerDigits(codes: StoredCodes): StoredCodes {
  const [rows, columns] = codes.shape as [number, number];
  return { ...codes, sizeBytes: codes.sizeBytes / 2, shape: [rows / 2, columns] };
}

/** The upper digits of an int16 matrix, which follow the lower ones. */
function upperDigits(codes: StoredCodes): StoredCodes {
  const [rows, columns] = codes.shape as [number, number];
  const sizeBytes = codes.sizeBytes / 2;
  return { ...codes, offset: codes.offset + sizeBytes, sizeBytes, shape: [rows / 2, columns] };
}

interface IntegerProduct {
  readonly columns: StoredColumns;
  readonly range: IntegerRange;
  readonly factor: number;
  readonly outputs?: readonly string[];
}

/**
 * Integer product of rows [rows, k] with codes [k, n] (as in https://arxiv.org/abs/2304.13013): rows of x and columns
 * of the weight have scales of their own. In int16 the products of the digits are added, except that of the two lower
 * digits, whose contribution is about as small as the rounding error (https://arxiv.org/abs/2306.11975).
 */
function integerProduct(
  frozen: Frozen,
  to: Lowering,
  rows: QuantizedRows,
  { columns, range, factor, outputs }: IntegerProduct,
): string {
  const sum = (codes: string, weight: StoredCodes, unit: number) => {
    const [scale, zero] = [to.scalar('float32', unit), to.literal('uint8', [], [range.zero])];
    const inputs = [codes, frozen.initializer(weight), scale, frozen.initializer(columns.scales), zero];
    return to.emit('MatMulIntegerToFloat', inputs, { domain: CONTRIB });
  };
  const sums =
    rows.digits === null
      ? sum(rows.codes, columns.codes, factor)
      : to.emit('Add', [
          sum(rows.codes, upperDigits(columns.codes), factor * INT16_BASE ** 2),
          sum(rows.digits, columns.codes, factor * INT16_BASE),
        ]);
  return to.emit('Mul', [sums, rows.scales], { outputs });
}

/** The logits of an output layer, in int16. */
function scoresOf(frozen: Frozen, to: Lowering, rows: string, product: IntegerProduct): string {
  const { columns, range } = product;
  const width = columns.codes.shape[0]! / DIGITS.int16;
  return integerProduct(frozen, to, quantizeRows(to, rows, { kind: 'int16', width, ...range }), product);
}

/** The parts of a code matrix that products read. */
export const factorsOf = (kind: ColumnQuantization, codes: StoredCodes): StoredCodes[] =>
  kind === 'int8' ? [codes] : [upperDigits(codes), codes];

/** Decodes a byte into its two numbers: ONNX can gather bytes, not nibbles. */
const pairTable = (table: Float32Array): number[] =>
  Array.from({ length: 256 }, (_, pair) => [table[pair >> 4]!, table[pair & 15]!]).flat();

function dequantizedColumns(
  frozen: Frozen,
  kind: ColumnQuantization,
  { codes, scales }: StoredColumns,
): string {
  const { to } = frozen;
  const steps = frozen.initializer(scales);
  const scaled = (codes: StoredCodes, steps: string) =>
    to.emit('DequantizeLinear', [frozen.initializer(codes), steps], { attributes: { axis: { int: 1 } } });
  if (kind === 'int8') return scaled(codes, steps);
  const upperSteps = to.emit('Mul', [steps, to.scalar('float32', INT16_BASE)]);
  return to.emit('Add', [scaled(upperDigits(codes), upperSteps), scaled(lowerDigits(codes), steps)]);
}

/** The whole matrix, dequantized to float32. */
function dequantized(frozen: Frozen, quantized: QuantizedMatrix, shape: readonly number[]): string {
  const { to } = frozen;
  if ('plain' in quantized) return dequantizedColumns(frozen, quantized.kind, quantized.plain);
  const { block, table } = BLOCK_CODES[quantized.kind];
  const pairs = to.literal('float32', [256, 2], pairTable(table));
  const codes = to.cast(frozen.initializer(quantized.codes), 'int32');
  const blocks = to.emit('Reshape', [to.emit('Gather', [pairs, codes]), to.int64([-1, block])]);
  const scaled = to.emit('Mul', [blocks, frozen.initializer(quantized.scales)]);
  return to.emit('Reshape', [scaled, to.int64(shape)]);
}

/** int16 digits need the whole range. */
const rangeFor = (kind: QuantizedMatrix['kind'], range: IntegerRange | null): IntegerRange | null =>
  kind === 'int16' && range?.levels !== WHOLE_RANGE.levels ? null : range;

/** x times a quantized weight: as an integer product where the CPU and the scheme allow it. */
function multiplyQuantized(
  frozen: Frozen,
  { inputs: [x, weight], attributes }: Node,
  quantized: QuantizedMatrix,
  outputs?: readonly string[],
): string {
  const { to } = frozen;
  const name = to.name(x!);
  const transposeB = Boolean(attributes.transposeB);
  const factor = (attributes.alpha as number | undefined) ?? 1;
  const range = rangeFor(quantized.kind, frozen.options.integers);
  if ('plain' in quantized && range) {
    const columns = transposeB ? quantized.transposed : quantized.plain;
    const rows = frozen.quantizedRows(name, { kind: quantized.kind, width: x!.shape[1]!, ...range });
    return integerProduct(frozen, to, rows, { columns, range, factor, outputs });
  }
  const floats = to.early(() => dequantized(frozen, quantized, weight!.shape));
  return multiply(to, [name, floats], { ranks: [2, 2], transposeB, alpha: factor }, outputs);
}

/** x times an output layer, as the loss computes it; null where that is done in float32. */
function multiplyScoring(
  frozen: Frozen,
  { inputs: [x], attributes }: Node,
  { scoring: columns }: StoredTensor,
  outputs?: readonly string[],
): string | null {
  const range = rangeFor('int16', frozen.options.integers);
  if (!columns || !range || !attributes.transposeB) return null;
  const { to } = frozen;
  const factor = (attributes.alpha as number | undefined) ?? 1;
  return scoresOf(frozen, to, to.name(x!), { columns, range, factor, outputs });
}

const product: FrozenRule = (frozen, node, y) => {
  const [x, weight, term] = node.inputs;
  const stored = frozen.stored(weight!);
  if (!stored || node.attributes.transposeA || x!.shape.length !== 2) return false;
  const outputs = term ? undefined : y;
  const made = stored.quantized
    ? multiplyQuantized(frozen, node, stored.quantized, outputs)
    : multiplyScoring(frozen, node, stored, outputs);
  if (made === null) return false;
  if (term) frozen.to.emit('Add', [made, frozen.to.name(term)], { outputs: y });
  return true;
};

/** Rows of a half-precision table: only those that are looked up are converted. */
const gather: FrozenRule = (frozen, { inputs: [table, indices], attributes }, y) => {
  const stored = frozen.stored(table!);
  if (!stored || stored.dtype === 'F32' || frozen.options.widenOnce || attributes.batchDims) return false;
  if (attributes.axis !== 0) return false;
  const { to } = frozen;
  const rows = to.emit('Gather', [frozen.initializer(stored), to.name(indices!)], {
    attributes: { axis: { int: 0 } },
  });
  to.cast(rows, 'float32', y);
  return true;
};

export const FROZEN_RULES: Partial<Record<OpName, FrozenRule>> = {
  BatchMatMul: product,
  Gemm: product,
  GatherV2: gather,
};
