// Frozen weights in an ONNX model: where they lie in their files, and the nodes that read them as they are stored, in half
// precision or quantised, so that a full-precision copy of one weight exists while it is used and no longer.
import { BLOCK_CODES, type ColumnQuantization, DIGITS, INT16_BASE, INT16_LEVELS } from '../../formats/quantization.ts';
import type { Graph, Node, Value } from '../graph.ts';
import type { OpName } from '../kernels.ts';
import type { QuantizedMatrix, StoredCodes, StoredColumns, StoredTensor } from '../program.ts';
import { type IntegerRange, WHOLE_RANGE } from './integers.ts';
import { CONTRIB, type Lowering } from './lowering.ts';
import { multiply } from './products.ts';

export interface FrozenOptions {
  /** A weight's file as the model is to name it. */
  locate(file: string): string;
  /** Half precision is converted once; otherwise by every node that reads it. */
  readonly widenOnce: boolean;
  /** For products of whole numbers; null: they are only stored, products are taken in float32. */
  readonly integers: IntegerRange | null;
}

/** Adds the nodes of an op that reads a frozen weight; false when the op's own rule is to read it as float32. */
type FrozenRule = (frozen: Frozen, node: Node, y: readonly string[]) => boolean;

const STORED_TYPES = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I8: 'int8',
  U8: 'uint8',
} as const;

interface QuantizedRows {
  /** [rows, n] in eight bits: the number itself, or the upper of its two digits. */
  readonly codes: string;
  /** [rows, 2 * n], the upper digits of a row before its lower ones; null in eight bits. */
  readonly digits: string | null;
  /** [rows, 1] */
  readonly scales: string;
}

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

  /** As it is in the file; one for all who read it. */
  initializer({ file, offset, sizeBytes, shape, dtype }: StoredTensor | StoredCodes): string {
    const key = `${offset} ${sizeBytes} ${file}`;
    const known = this.#initializers.get(key);
    if (known !== undefined) return known;
    const name = this.to.fresh('w');
    const data = { location: this.options.locate(file), offset, sizeBytes };
    this.to.initializers.push({ name, type: STORED_TYPES[dtype], shape, data });
    this.#initializers.set(key, name);
    return name;
  }

  #named(stored: StoredTensor): string {
    const name = this.#asFloat32(stored);
    const range = rangeFor('int16', this.options.integers);
    const { scoring: columns } = stored;
    if (columns && range)
      this.to.knowScoring(name, (to, rows) => {
        const width = columns.codes.shape[0]! / DIGITS.int16;
        const quantized = quantizeRows(to, rows, { kind: 'int16', width, ...range });
        return integerProduct(this, to, quantized, { columns, range, factor: 1 });
      });
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

  /** Each row of x [rows, n] in whole numbers, and its scale; made once for all products with x. */
  quantizedRows(x: string, form: RowForm): QuantizedRows {
    const key = `${form.kind} ${x}`;
    const known = this.#rows.get(key);
    if (known) return known;
    const made = quantizeRows(this.to, x, form);
    this.#rows.set(key, made);
    return made;
  }
}

/** Rows of zeros keep a scale to divide by. */
const LEAST = 1e-30;
/** An exact half goes up: rows are unsigned here, and the last bit of no other quotient is moved over a half by that. */
const HALF_UP = 1 - 2 ** -20;

interface RowForm extends IntegerRange {
  readonly kind: ColumnQuantization;
  /** Numbers of a row. */
  readonly width: number;
}

/**
 * A row is one block: ONNX Runtime shares blocks out among its threads, but not the scales of an axis, and so takes less than half the
 * time for these. Codes of sixteen bits are `zero` in both digits plus the number, so that the digits are bytes: the lower one by dropping
 * the other, the upper one as what is left over rounded.
 */
function quantizeRows(to: Lowering, x: string, { kind, levels, zero, width }: RowForm): QuantizedRows {
  const last = to.int64([-1]);
  const keepdims = { attributes: { keepdims: { int: 1 } } };
  const perRow = { attributes: { axis: { int: 1 }, block_size: { int: width } } };
  const high = to.emit('ReduceMax', [x, last], keepdims);
  const low = to.emit('Neg', [to.emit('ReduceMin', [x, last], keepdims)]);
  const largest = to.emit('Max', [high, low, to.scalar('float32', LEAST)]);
  const most = kind === 'int8' ? levels : INT16_LEVELS;
  const scales = to.emit('Mul', [largest, to.scalar('float32', 1 / most)]);
  const zeros = (type: 'uint8' | 'uint16', zero: number) =>
    to.emit('Expand', [to.literal(type, [], [zero]), to.emit('Shape', [scales])]);
  if (kind === 'int8') {
    const codes = to.emit('QuantizeLinear', [x, scales, zeros('uint8', zero)], perRow);
    return { codes, digits: null, scales };
  }
  const both = to.emit('QuantizeLinear', [x, scales, zeros('uint16', zero * INT16_BASE + zero)], perRow);
  const lower = to.cast(both, 'uint8');
  const unit = to.scalar('float32', 1);
  const above = to.emit('DequantizeLinear', [both, unit, to.literal('uint16', [], [zero])]);
  const base = to.scalar('float32', INT16_BASE * HALF_UP);
  const codes = to.emit('QuantizeLinear', [above, base, to.literal('uint8', [], [0])]);
  const digits = to.emit('Concat', [codes, lower], { attributes: { axis: { int: 1 } } });
  return { codes, digits, scales };
}

function lowerDigits(codes: StoredCodes): StoredCodes {
  const [rows, columns] = codes.shape as [number, number];
  return { ...codes, sizeBytes: codes.sizeBytes / 2, shape: [rows / 2, columns] };
}

/** The upper digits of a matrix of int16, which stand below the lower ones. */
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
 * Rows [rows, k] times codes [k, n] in whole numbers, as in https://arxiv.org/abs/2304.13013: rows of x and columns of the weight have scales
 * of their own. In sixteen bits the products of the digits are added up, but for those of two lower ones, which come to about as
 * much as rounding to two digits leaves out (https://arxiv.org/abs/2306.11975).
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

/** Two numbers for every byte of codes: ONNX has no table of sixteen. */
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

/** The whole matrix in float32. */
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

/** Digits of sixteen bits take the whole range. */
const rangeFor = (kind: QuantizedMatrix['kind'], range: IntegerRange | null): IntegerRange | null =>
  kind === 'int16' && range?.levels !== WHOLE_RANGE.levels ? null : range;

const product: FrozenRule = (frozen, { inputs: [x, weight, term], attributes }, y) => {
  const quantized = frozen.stored(weight!)?.quantized;
  const { transposeA = false, transposeB = false, alpha = 1 } = attributes;
  if (!quantized || transposeA || x!.shape.length !== 2) return false;
  const { to } = frozen;
  const { integers } = frozen.options;
  const width = x!.shape[1]!;
  const factor = alpha as number;
  const outputs = term ? undefined : y;
  const inFloats = () =>
    multiply(
      to,
      [to.name(x!), to.early(() => dequantized(frozen, quantized, weight!.shape))],
      { ranks: [2, 2], transposeB: Boolean(transposeB), alpha: factor },
      outputs,
    );
  const range = rangeFor(quantized.kind, integers);
  const made =
    'plain' in quantized && range
      ? integerProduct(frozen, to, frozen.quantizedRows(to.name(x!), { kind: quantized.kind, width, ...range }), {
          columns: transposeB ? quantized.transposed : quantized.plain,
          range,
          factor,
          outputs,
        })
      : inFloats();
  if (term) to.emit('Add', [made, to.name(term)], { outputs: y });
  return true;
};

/** Rows of a table in half precision: those that are asked for are converted. */
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
