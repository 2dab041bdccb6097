// Scatter-adds rows into a matrix, deterministically also when several go to the same place.
import type { DType } from '../program.ts';
import type { Lowering } from './lowering.ts';

export interface AddedRows {
  /** [any, width] */
  readonly matrix: string;
  /** [rows, 1], int32 or int64. */
  readonly places: string;
  /** [rows, width] */
  readonly rows: string;
  /** Shape of `rows`, as a value. */
  readonly shape: string;
  readonly dtype: DType;
}

/**
 * On the CPU, ScatterElements adds row after row, where ScatterND may add in any order. On WebGPU threads add in any
 * order, and round differently in every run: there a product sums the rows of each place, and every one of them writes
 * the same sum.
 */
export function addRows(to: Lowering, added: AddedRows, outputs?: readonly string[]): string {
  if (to.provider === 'webgpu' && added.dtype === 'float32') return writeSums(to, added, outputs);
  const { matrix, places, rows, shape } = added;
  return to.emit('ScatterElements', [matrix, to.emit('Expand', [places, shape]), rows], {
    attributes: { axis: { int: 0 }, reduction: { string: 'add' } },
    outputs,
  });
}

function writeSums(to: Lowering, { matrix, places, rows }: AddedRows, outputs?: readonly string[]): string {
  const column = to.cast(places, 'int32');
  const line = to.emit('Reshape', [column, to.int64([1, -1])]);
  const together = to.cast(to.emit('Equal', [column, line]), 'float32');
  const before = to.emit('Gather', [matrix, to.emit('Reshape', [column, to.int64([-1])])]);
  const sums = to.emit('Add', [before, to.emit('MatMul', [together, rows])]);
  return to.emit('ScatterND', [matrix, to.cast(places, 'int64'), sums], { outputs });
}
