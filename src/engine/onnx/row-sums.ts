// Rows added to those of a matrix by their places, several to the same one, in an order that is the same in every run. What they are is the caller's.
import type { DType } from '../program.ts';
import type { Lowering } from './lowering.ts';

export interface AddedRows {
  /** [any, width] */
  readonly matrix: string;
  /** [rows, 1], int32 or int64. */
  readonly places: string;
  /** [rows, width] */
  readonly rows: string;
  /** Of the rows, as a value. */
  readonly shape: string;
  readonly dtype: DType;
}

/**
 * ScatterElements adds one row after the other on a processor, where ScatterND may add in any order. On WebGPU its threads add as they
 * come, and round otherwise in every run: there a product makes one sum of the rows of each place, which all of them write.
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
