// Rows of activations in whole numbers of eight or sixteen bits, each row with a scale of its own. What they are multiplied by is
// the matter of frozen.ts.
import { type ColumnQuantization, INT16_BASE, INT16_LEVELS } from '../../formats/quantization.ts';
import type { IntegerRange } from './integers.ts';
import type { Lowering } from './lowering.ts';

export interface QuantizedRows {
  /** [rows, n] in eight bits: the number itself, or the upper of its two digits. */
  readonly codes: string;
  /** [rows, 2 * n], the upper digits of a row before its lower ones; null in eight bits. */
  readonly digits: string | null;
  /** [rows, 1]: what a number in the last place of a code stands for. */
  readonly scales: string;
}

export interface RowForm extends IntegerRange {
  readonly kind: ColumnQuantization;
  /** Numbers of a row. */
  readonly width: number;
}

/** Rows of zeros keep a scale to divide by. */
const LEAST = 1e-30;

/** [rows, 1]: the largest number of a row is `levels` of its scale. */
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
 * x / scales, rounded, from `zero` on. A row is one block of ONNX's: ONNX Runtime shares blocks out among its threads, but not the rows of
 * an axis, and so takes less than half the time for them (512 x 3072 on two cores: 0.19 and 0.42 ms).
 */
function codesOf(to: Lowering, x: string, scales: string, { type, zero, width }: CodeForm): string {
  const zeros = to.emit('Expand', [to.literal(type, [], [zero]), to.emit('Shape', [scales])]);
  const attributes = { axis: { int: 1 }, block_size: { int: width } };
  return to.emit('QuantizeLinear', [x, scales, zeros], { attributes });
}

/** Zero in sixteen bits: its lower byte is the zero of a digit. */
const WIDE_ZERO = 128 * 256 + 128;

/**
 * The lower digits of numbers in sixteen bits, whose upper digits are there: number - 254 * upper, which as a byte, where 256 is nothing, is
 * the number's lower byte and twice the upper digit. Neither a product nor a shift of sixteen bits is needed, which ONNX Runtime has not or
 * has slowly.
 */
function lowerDigits(to: Lowering, numbers: string, upper: string): string {
  return to.emit('Add', [to.cast(numbers, 'uint8'), to.emit('Add', [upper, upper])]);
}

/** x [rows, width] in whole numbers. */
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
