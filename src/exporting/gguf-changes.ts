// What llama.cpp wants done to a tensor's numbers, each with its way back: rows in another order, axes turned over, one added.
// Which tensors want what is gguf-architectures.ts'.
import { transpose } from '../engine/arrays.ts';

export interface Change {
  there(values: Float32Array, shape: readonly number[]): Float32Array;
  /** Of what `there` gave; the shape is that before. */
  back(values: Float32Array, shape: readonly number[]): Float32Array;
  /** That of what `there` gives. */
  shape(shape: readonly number[]): readonly number[];
}

/** Row `i` is what row `order[i]` was. Rows are what a projection gives: of its matrix and of its bias alike. */
export function reorderRows(orderOf: (rows: number) => readonly number[]): Change {
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

/** Rows of every head from (half, pair) to (pair, half): llama.cpp turns neighbours (2 i, 2 i + 1) instead of halves (i, i + d / 2). */
export const pairRows = (heads: number): Change =>
  reorderRows(rows => {
    const pairs = rows / heads / 2;
    return Array.from({ length: rows }, (_, row) => {
      const [head, place] = [Math.floor(row / (2 * pairs)), row % (2 * pairs)];
      return head * 2 * pairs + (place % 2) * pairs + Math.floor(place / 2);
    });
  });

/**
 * A joint projection from one key head after the other, each with its query heads before it and its value behind it, to all
 * queries, all keys, all values.
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

/** A matrix that is stored [in, out]. */
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
