// Dynamic quantization of activations: integers of eight or sixteen bits, with a scale per row. The products are in
// frozen.ts.
import { type ColumnQuantization, INT16_BASE, INT16_LEVELS } from '../../formats/quantization.ts';
import type { IntegerRange } from './integers.ts';
import type { Lowering } from './lowering.ts';

export interface QuantizedRows {
  /** [rows, n] in eight bits: the code, or the upper of its two digits. */
  readonly codes: string;
  /** [rows, 2 * n], the upper digits of a row before its lower ones; null for int8. */
  readonly digits: string | null;
  /** [rows, 1]: the value of one unit of a code. */
  readonly scales: string;
}

export interface RowForm extends IntegerRange {
  readonly kind: ColumnQuantization;
  /** Numbers of a row. */
  readonly width: number;
}

/** Keeps the scale of an all-zero row above zero. */
const LEAST = 1e-30;

/** [rows, 1]: the largest magnitude of each row divided by `levels`. */
function scalesOf(to: Lowering, x: string, levels: number): string {
  const along = (op: string) => to.emit(op, [x, to.int64([-1])], { attributes: { keepdims: { int: 1 } } });
  const lowest = to.emit('Neg', [along('ReduceMin')]);
  const largest = to.emit('Max', [along('ReduceMax'), lowest, to.scalar('float32', LEAST)]);
  return to.emit('Mul', [largest, to.scalar('float32', 1 / levels)]);
}

interface CodeForm {
  readonly type: 'uint8' | 'uint16';
  /** The code of zero. */
  readonly zero: number;
  readonly width: number;
}

/**
 * x / scales + zero, rounded. Each row is one block of QuantizeLinear: ONNX Runtime parallelizes over blocks but not
 * over the rows of per-axis quantization, which takes more than twice as long (512 x 3072 on two cores: 0.19 and 0.42
 * ms).
 */
function codesOf(to: Lowering, x: string, scales: string, { type, zero, width }: CodeForm): string {
  const zeros = to.emit('Expand', [to.literal(type, [], [zero]), to.emit('Shape', [scales])]);
  const attributes = { axis: { int: 1 }, block_size: { int: width } };
  return to.emit('QuantizeLinear', [x, scales, zeros], { attributes });
}

/** Zero in 16 bits; its lower byte is the zero of a digit. */
const WIDE_ZERO = 128 * 256 + 128;

/**
 * The lower digits of 16-bit codes, given the upper ones: code - 254 * upper, which modulo 256 is the code's lower byte
 * plus twice the upper digit. This avoids 16-bit products and shifts, which ONNX Runtime lacks or computes slowly.
 */
function lowerDigits(to: Lowering, numbers: string, upper: string): string {
  return to.emit('Add', [to.cast(numbers, 'uint8'), to.emit('Add', [upper, upper])]);
}

/** Quantizes x [rows, width]. */
export function quantizeRows(to: Lowering, x: string, { kind, levels, zero, width }: RowForm): QuantizedRows {
  if (kind === 'int8') {
    const scales = scalesOf(to, x, levels);
    return { codes: codesOf(to, x, scales, { type: 'uint8', zero, width }), digits: null, scales };
  }
  const scales = scalesOf(to, x, INT16_LEVELS);
  const numbers = codesOf(to, x, scales, { type: 'uint16', zero: WIDE_ZERO, width });
  const upperScales = to.emit('Mul', [scales, to.scalar('float32', INT16_BASE)]);
  const codes = codesOf(to, x, upperScales, { type: 'uint8', zero, width });
  const both = [codes, lowerDigits(to, numbers, codes)];
  return { codes, digits: to.emit('Concat', both, { attributes: { axis: { int: 1 } } }), scales };
}
