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

/**
 * x / scales + zero, rounded. A row is one block of ONNX's: ONNX Runtime shares blocks out among its threads, but not the rows of an
 * axis, and so takes less than half the time for them (512 x 3072 on two cores: 0.19 and 0.42 ms).
 */
function codesOf(
  to: Lowering,
  x: string,
  scales: string,
  { type, zero, width }: { readonly type: 'uint8' | 'uint16'; readonly zero: number; readonly width: number },
): string {
  const zeros = to.emit('Expand', [to.literal(type, [], [zero]), to.emit('Shape', [scales])]);
  const attributes = { axis: { int: 1 }, block_size: { int: width } };
  return to.emit('QuantizeLinear', [x, scales, zeros], { attributes });
}

/** What is half way between two numbers goes up, here where none is below zero; nothing else that is rounded comes so near. */
const HALF_UP = 1 - 2 ** -20;

/** The upper bytes of numbers of sixteen bits whose lower bytes count from -`zero` on: ONNX Runtime shifts no such numbers. */
function upperBytes(to: Lowering, numbers: string, zero: number): string {
  const [one, base] = [1, INT16_BASE * HALF_UP].map(number => to.scalar('float32', number));
  const floats = to.emit('DequantizeLinear', [numbers, one!, to.literal('uint16', [], [zero])]);
  return to.emit('QuantizeLinear', [floats, base!, to.literal('uint8', [], [0])]);
}

/** x [rows, width] in whole numbers. Both digits of sixteen bits have the same zero, so that they are the bytes of the number. */
export function quantizeRows(to: Lowering, x: string, { kind, levels, zero, width }: RowForm): QuantizedRows {
  if (kind === 'int8') {
    const scales = scalesOf(to, x, levels);
    return { codes: codesOf(to, x, scales, { type: 'uint8', zero, width }), digits: null, scales };
  }
  const scales = scalesOf(to, x, INT16_LEVELS);
  const numbers = codesOf(to, x, scales, { type: 'uint16', zero: zero * INT16_BASE + zero, width });
  const codes = upperBytes(to, numbers, zero);
  const digits = to.emit('Concat', [codes, to.cast(numbers, 'uint8')], { attributes: { axis: { int: 1 } } });
  return { codes, digits, scales };
}
