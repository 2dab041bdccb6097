// Changes that llama.cpp wants in a tensor's numbers, each with its inverse: permuted rows, transposed axes, one added.
// gguf-architectures.ts says which tensors need which.
import { transpose } from '../engine/arrays.ts';

export interface Change {
  there(values: Float32Array, shape: readonly number[]): Float32Array;
  /** The inverse of `there`; `shape` is the original shape. */
  back(values: Float32Array, shape: readonly number[]): Float32Array;
  /** The shape after `there`. */
  shape(shape: readonly number[]): readonly number[];
}

/** Row `i` becomes the former row `order[i]`. Rows are a projection's outputs, in its matrix and its bias alike. */
function reorderRows(orderOf: (rows: number) => readonly number[]): Change {
  const move = (values: Float32Array, rows: number, back: boolean): Float32Array => {
    const width = values.length / rows;
    const moved = new Float32Array(values.length);
    for (const [row, from] of orderOf(rows).entries()) {
      const [source, target] = back ? [row, from] : [from, row];
      moved.set(values.subarray(source * width, (source + 1) * width), target * width);
    }
    return moved;
  };
  return {
    there: (values, [rows]) => move(values, rows!, false),
    back: (values, [rows]) => move(values, rows!, true),
    shape: shape => shape,
  };
}

/**
 * Permutes the rows of every head from (half, pair) to (pair, half): llama.cpp rotates adjacent elements (2 i, 2 i + 1)
 * instead of halves (i, i + d / 2).
 */
export const pairRows = (heads: number): Change =>
  reorderRows(rows => {
    const pairs = rows / heads / 2;
    return Array.from({ length: rows }, (_, row) => {
      const [head, place] = [Math.floor(row / (2 * pairs)), row % (2 * pairs)];
      return head * 2 * pairs + (place % 2) * pairs + Math.floor(place / 2);
    });
  });

/**
 * Reorders a fused projection from groups per key head (its query heads, key, value) to all queries, all keys, all
 * values.
 */
export const separateGroups = (heads: number, kvHeads: number): Change =>
  reorderRows(rows => {
    const headDim = rows / (heads + 2 * kvHeads);
    const group = heads / kvHeads;
    const headRows = (kvHead: number, place: number): number[] =>
      Array.from({ length: headDim }, (_, i) => (kvHead * (group + 2) + place) * headDim + i);
    const each = <Made>(count: number, make: (i: number) => Made[]): Made[] =>
      Array.from({ length: count }, (_, i) => make(i)).flat();
    return [
      ...each(heads, head => headRows(Math.floor(head / group), head % group)),
      ...each(kvHeads, head => headRows(head, group)),
      ...each(kvHeads, head => headRows(head, group + 1)),
    ];
  });

/** For matrices stored [in, out]. */
export const transposed: Change = {
  there: transpose,
  back: (values, shape) => transpose(values, shape.toReversed()),
  shape: shape => shape.toReversed(),
};

/** Gemma's norms scale by 1 + weight. */
export const raisedByOne: Change = {
  there: values => values.map(value => value + 1),
  back: values => values.map(value => value - 1),
  shape: shape => shape,
};
