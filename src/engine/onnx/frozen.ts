// Frozen weights in an ONNX model: where they lie in their files, and the nodes that read them as they are stored, in half
// precision or quantised, so that a full-precision copy of one weight exists while it is used and no longer.
import { BLOCK_CODES } from '../../formats/quantization.ts';
import type { Graph, Node, Value } from '../graph.ts';
import type { OpName } from '../kernels.ts';
import type { QuantizedMatrix, StoredCodes, StoredColumns, StoredTensor } from '../program.ts';
import type { IntegerRange } from './integers.ts';
import { CONTRIB, type Lowering } from './lowering.ts';
import { multiply } from './products.ts';

export interface FrozenOptions {
  /** A weight's file as the model is to name it. */
  locate(file: string): string;
  /** Half precision is converted once; otherwise by every node that reads it. */
  readonly widenOnce: boolean;
  /** For products of whole numbers; null: int8 is only stored, products are taken in float32. */
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
  readonly codes: string;
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
    for (const [value, stored] of weights) to.provide(value, () => this.#asFloat32(stored));
  }

  stored(value: Value): StoredTensor | undefined {
    return this.#weights.get(value);
  }

  /** As it is in the file; one for all who read it. */
  initializer({ file, offset, sizeBytes, shape, dtype }: StoredTensor | StoredCodes): string {
    const key = `${offset} ${file}`;
    const known = this.#initializers.get(key);
    if (known !== undefined) return known;
    const name = this.to.fresh('w');
    const data = { location: this.options.locate(file), offset, sizeBytes };
    this.to.initializers.push({ name, type: STORED_TYPES[dtype], shape, data });
    this.#initializers.set(key, name);
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

  /** Each row of x [rows, n] in whole numbers of eight bits, and its scale; made once for all products with x. */
  quantizedRows(x: string, rows: number, range: IntegerRange): QuantizedRows {
    const known = this.#rows.get(x);
    if (known) return known;
    const made = quantizeRows(this.to, x, rows, range);
    this.#rows.set(x, made);
    return made;
  }
}

/** Rows of zeros keep a scale to divide by. */
const LEAST = 1e-30;

function quantizeRows(to: Lowering, x: string, rows: number, { levels, zero }: IntegerRange): QuantizedRows {
  const last = to.int64([-1]);
  const attributes = { keepdims: { int: 1 } };
  const high = to.emit('ReduceMax', [x, last], { attributes });
  const low = to.emit('Neg', [to.emit('ReduceMin', [x, last], { attributes })]);
  const largest = to.emit('Max', [high, low, to.scalar('float32', LEAST)]);
  const scales = to.emit('Mul', [largest, to.scalar('float32', 1 / levels)]);
  const zeros = to.literal('uint8', [rows], new Array(rows).fill(zero));
  const perRow = to.emit('Reshape', [scales, to.int64([rows])]);
  const codes = to.emit('QuantizeLinear', [x, perRow, zeros], { attributes: { axis: { int: 0 } } });
  return { codes, scales };
}

interface IntegerProduct {
  readonly columns: StoredColumns;
  readonly range: IntegerRange;
  readonly factor: number;
  readonly outputs?: readonly string[];
}

/** x [rows, k] times codes [k, n] in whole numbers, as in https://arxiv.org/abs/2304.13013: rows of x and columns of the weight have scales of their own. */
function integerProduct(frozen: Frozen, x: Value, product: IntegerProduct): string {
  const { to } = frozen;
  const { columns, range, factor, outputs } = product;
  const rows = frozen.quantizedRows(to.name(x), x.shape[0]!, range);
  const inputs = [
    rows.codes,
    frozen.initializer(columns.codes),
    to.scalar('float32', 1),
    frozen.initializer(columns.scales),
    to.literal('uint8', [], [range.zero]),
  ];
  const sums = to.emit('MatMulIntegerToFloat', inputs, { domain: CONTRIB });
  const scales = factor === 1 ? rows.scales : to.emit('Mul', [rows.scales, to.scalar('float32', factor)]);
  return to.emit('Mul', [sums, scales], { outputs });
}

/** Two numbers for every byte of codes: ONNX has no table of sixteen. */
const pairTable = (table: Float32Array): number[] =>
  Array.from({ length: 256 }, (_, pair) => [table[pair >> 4]!, table[pair & 15]!]).flat();

/** The whole matrix in float32. */
function dequantized(frozen: Frozen, quantized: QuantizedMatrix, shape: readonly number[]): string {
  const { to } = frozen;
  if (quantized.kind === 'int8') {
    const inputs = [frozen.initializer(quantized.plain.codes), frozen.initializer(quantized.plain.scales)];
    return to.emit('DequantizeLinear', inputs, { attributes: { axis: { int: 1 } } });
  }
  const { block, table } = BLOCK_CODES[quantized.kind];
  const pairs = to.literal('float32', [256, 2], pairTable(table));
  const codes = to.cast(frozen.initializer(quantized.codes), 'int32');
  const blocks = to.emit('Reshape', [to.emit('Gather', [pairs, codes]), to.int64([-1, block])]);
  const scaled = to.emit('Mul', [blocks, frozen.initializer(quantized.scales)]);
  return to.emit('Reshape', [scaled, to.int64(shape)]);
}

const product: FrozenRule = (frozen, { inputs: [x, weight, term], attributes }, y) => {
  const quantized = frozen.stored(weight!)?.quantized;
  const { transposeA = false, transposeB = false, alpha = 1 } = attributes;
  if (!quantized || transposeA || x!.shape.length !== 2) return false;
  const { to } = frozen;
  const { integers } = frozen.options;
  const factor = alpha as number;
  const outputs = term ? undefined : y;
  const inIntegers = (columns: StoredColumns, range: IntegerRange) =>
    integerProduct(frozen, x!, { columns, range, factor, outputs });
  const inFloats = () =>
    multiply(
      to,
      [to.name(x!), to.early(() => dequantized(frozen, quantized, weight!.shape))],
      { ranks: [2, 2], transposeB: Boolean(transposeB), alpha: factor },
      outputs,
    );
  const made =
    quantized.kind === 'int8' && integers !== null
      ? inIntegers(transposeB ? quantized.transposed : quantized.plain, integers)
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
