// Quantizes and dequantizes: integer codes with a scale per column (int16, int8), and four-bit codes with a scale per
// block (int4, and NF4 as in bitsandbytes).

export type ColumnQuantization = 'int16' | 'int8';
export type BlockQuantization = 'int4' | 'nf4';
export type Quantization = ColumnQuantization | BlockQuantization;

/** Codes from -127 to 127, symmetric around zero. */
const INT8_LEVELS = 127;

/**
 * An int16 code is two digits in this base, each from -127 to 127, so that its products are sums of 8-bit products:
 * https://arxiv.org/abs/2306.11975
 */
export const INT16_BASE = 2 * INT8_LEVELS;
export const INT16_LEVELS = INT8_LEVELS * INT16_BASE;

export interface QuantizedColumns {
  /** [rows, columns]; for int16 [2 rows, columns], the lower digits of all numbers first. */
  readonly codes: Int8Array;
  /** One per column. */
  readonly scales: Float32Array;
}

function largestOfColumns(matrix: Float32Array, columns: number): Float32Array {
  const largest = new Float32Array(columns);
  for (let at = 0; at < matrix.length; at += columns)
    for (let column = 0; column < columns; column++)
      largest[column] = Math.max(largest[column]!, Math.abs(matrix[at + column]!));
  return largest;
}

const LEVELS: Record<ColumnQuantization, number> = { int8: INT8_LEVELS, int16: INT16_LEVELS };

/** 8-bit digits per code. */
export const DIGITS: Record<ColumnQuantization, number> = { int8: 1, int16: 2 };

export const emptyColumns = (rows: number, columns: number, kind: ColumnQuantization): QuantizedColumns => ({
  codes: new Int8Array(rows * columns * DIGITS[kind]),
  scales: new Float32Array(columns),
});

const reciprocalOf = (scale: number): number => (scale > 0 ? Math.fround(1 / scale) : 0);

function storeCode(codes: Int8Array, at: number, code: number, kind: ColumnQuantization): void {
  if (kind === 'int8') {
    codes[at] = code;
    return;
  }
  const upper = Math.round(code / INT16_BASE);
  codes[at] = code - upper * INT16_BASE;
  codes[codes.length / 2 + at] = upper;
}

/**
 * matrix [rows, columns] ~ codes times scales: the largest number of a column is exact, the others are off by at most
 * half a scale.
 */
export function quantizeColumns(
  matrix: Float32Array,
  columns: number,
  kind: ColumnQuantization,
): QuantizedColumns {
  const quantized = emptyColumns(matrix.length / columns, columns, kind);
  const scales = largestOfColumns(matrix, columns).map(largest => largest / LEVELS[kind]);
  const reciprocals = scales.map(reciprocalOf);
  quantized.scales.set(scales);
  for (let at = 0; at < matrix.length; at += columns)
    for (let column = 0; column < columns; column++) {
      const code = Math.round(matrix[at + column]! * reciprocals[column]!);
      storeCode(quantized.codes, at + column, code, kind);
    }
  return quantized;
}

/** Quantizes some rows of a matrix into columns `first` and following of its transpose. */
export function quantizeTransposed(
  rows: Float32Array,
  columns: number,
  { codes, scales }: QuantizedColumns,
  first: number,
  kind: ColumnQuantization,
): void {
  for (let start = 0, column = first; start < rows.length; start += columns, column++) {
    let largest = 0;
    for (let i = 0; i < columns; i++) largest = Math.max(largest, Math.abs(rows[start + i]!));
    const scale = Math.fround(largest / LEVELS[kind]);
    const reciprocal = reciprocalOf(scale);
    scales[column] = scale;
    for (let i = 0; i < columns; i++)
      storeCode(codes, i * scales.length + column, Math.round(rows[start + i]! * reciprocal), kind);
  }
}

export function dequantizeColumns(
  { codes, scales }: QuantizedColumns,
  kind: ColumnQuantization,
): Float32Array {
  const scaleOf = (i: number) => scales[i % scales.length]!;
  if (kind === 'int8') return Float32Array.from(codes, (code, i) => code * scaleOf(i));
  const half = codes.length / 2;
  return Float32Array.from(
    codes.subarray(0, half),
    (lower, i) => (lower + codes[half + i]! * INT16_BASE) * scaleOf(i),
  );
}

/**
 * A four-bit code selects a number of a table, which is multiplied by the block's scale. Blocks are consecutive numbers
 * of the rows.
 */
export interface BlockCode {
  readonly block: number;
  /** Sixteen numbers, by code. */
  readonly table: Float32Array;
  /** The scale that a block's numbers are divided by before each takes the nearest number of the table. */
  scaleOf(block: Float32Array): number;
}

/** The number of the largest magnitude, with its sign. */
const furthest = (block: Float32Array): number =>
  block.reduce((far, number) => (Math.abs(number) > Math.abs(far) ? number : far), 0);

export const BLOCK_CODES = {
  /** The number of the largest magnitude is one end of 16 equidistant numbers, as in ggml's Q4_0. */
  int4: {
    block: 32,
    table: Float32Array.from({ length: 16 }, (_, code) => 1 - code / 8),
    scaleOf: furthest,
  },
  /** Quantiles of the normal distribution, zero among them: https://arxiv.org/abs/2305.14314, appendix E. */
  nf4: {
    block: 64,
    table: Float32Array.of(
      ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453],
      ...[-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0],
      ...[0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
      ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
    ),
    scaleOf: block => Math.abs(furthest(block)),
  },
} satisfies Record<BlockQuantization, BlockCode>;

export interface QuantizedBlocks {
  /** Two per byte, the first in the upper half. */
  readonly codes: Uint8Array;
  /** One per block. */
  readonly scales: Float32Array;
}

/** Codes sorted by their numbers, and the midpoints between neighbours, which separate the codes. */
function thresholdsOf(table: Float32Array): { order: Uint8Array; middles: Float32Array } {
  const order = Uint8Array.from(table.keys()).sort((a, b) => table[a]! - table[b]!);
  const middles = new Float32Array(table.length - 1);
  for (let i = 0; i < middles.length; i++) middles[i] = (table[order[i]!]! + table[order[i + 1]!]!) / 2;
  return { order, middles };
}

/** How many of the sorted midpoints lie below the number, by binary search. */
function countBelow(middles: Float32Array, number: number): number {
  let low = 0;
  for (let step = 8; step > 0; step >>= 1) if (number > middles[low + step - 1]!) low += step;
  return low;
}

/** Throws when the number of elements is no multiple of the block size. */
export function quantizeBlocks(numbers: Float32Array, { block, table, scaleOf }: BlockCode): QuantizedBlocks {
  if (numbers.length % block !== 0) throw new Error(`${numbers.length} numbers are no blocks of ${block}`);
  const { order, middles } = thresholdsOf(table);
  const codes = new Uint8Array(numbers.length / 2);
  const scales = new Float32Array(numbers.length / block);
  for (let index = 0; index < scales.length; index++) {
    const start = index * block;
    scales[index] = scaleOf(numbers.subarray(start, start + block));
    const reciprocal = scales[index] === 0 ? 0 : Math.fround(1 / scales[index]!);
    const codeOf = (at: number) => order[countBelow(middles, Math.fround(numbers[at]! * reciprocal))]!;
    for (let at = start; at < start + block; at += 2) codes[at / 2] = (codeOf(at) << 4) | codeOf(at + 1);
  }
  return { codes, scales };
}

export function dequantizeBlocks(
  { codes, scales }: QuantizedBlocks,
  { block, table }: BlockCode,
): Float32Array {
  const numbers = new Float32Array(codes.length * 2);
  for (let at = 0; at < numbers.length; at++) {
    const pair = codes[at >> 1]!;
    const code = at % 2 === 0 ? pair >> 4 : pair & 15;
    numbers[at] = table[code]! * scales[Math.floor(at / block)]!;
  }
  return numbers;
}
