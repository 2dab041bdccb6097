// Packs examples of different lengths into rows of equal length, by first-fit decreasing. Attention between tokens is limited by
// `segments` and is implemented elsewhere.
import type { Sequence } from './example-form.ts';

export interface PackedRow {
  /** Padded with 0. */
  tokens: Int32Array;
  /** Target token of each position; -1 for none. */
  targets: Int32Array;
  /** Restart at 0 for each sequence; 0 for padding. */
  positions: Int32Array;
  /** Index of the sequence within the row, from 1; 0 for padding. */
  segments: Int32Array;
}

/**
 * Assigns examples to rows; returns indices into `lengths` for each row. Deterministic: longest first, ties in their order.
 * O(n log n). Throws RangeError for an example longer than a row.
 */
export function planRows(lengths: ArrayLike<number>, rowLength: number): number[][] {
  const order = Array.from({ length: lengths.length }, (_, i) => i).sort(
    (a, b) => lengths[b]! - lengths[a]! || a - b,
  );
  if (order.length > 0 && lengths[order[0]!]! > rowLength) {
    throw new RangeError(`Example ${order[0]} has ${lengths[order[0]!]} tokens; a row holds ${rowLength}`);
  }
  const rows: number[][] = [];
  const free = freeSpace(order.length, rowLength);
  for (const example of order) {
    const row = free.take(lengths[example]!);
    const examples = rows[row];
    if (examples) examples.push(example);
    else rows[row] = [example];
  }
  return rows;
}

/** Concatenates sequences into one row; their total length must not exceed `rowLength`. */
export function fillRow(sequences: readonly Sequence[], rowLength: number): PackedRow {
  const row = emptyRow(rowLength);
  let start = 0;
  sequences.forEach(({ tokens, trained }, index) => {
    if (start + tokens.length > rowLength)
      throw new RangeError(`Sequences do not fit a row of ${rowLength} tokens`);
    row.tokens.set(tokens, start);
    for (let i = 0; i < tokens.length; i++) {
      row.positions[start + i] = i;
      row.segments[start + i] = index + 1;
      if (trained[i + 1] === 1) row.targets[start + i] = tokens[i + 1]!;
    }
    start += tokens.length;
  });
  return row;
}

/** All padding. Fills a batch up to the number of rows that a compiled program expects. */
export function emptyRow(rowLength: number): PackedRow {
  return {
    tokens: new Int32Array(rowLength),
    targets: new Int32Array(rowLength).fill(-1),
    positions: new Int32Array(rowLength),
    segments: new Int32Array(rowLength),
  };
}

/** Free space of the rows, as a tree of maxima: finds the first row with enough space in O(log n). */
function freeSpace(rows: number, rowLength: number): { take(length: number): number } {
  let leaves = 1;
  while (leaves < rows) leaves *= 2;
  const most = new Int32Array(2 * leaves).fill(rowLength);
  return {
    take: length => {
      let node = 1;
      while (node < leaves) node = most[2 * node]! >= length ? 2 * node : 2 * node + 1;
      const row = node - leaves;
      most[node] = most[node]! - length;
      for (node >>= 1; node >= 1; node >>= 1) most[node] = Math.max(most[2 * node]!, most[2 * node + 1]!);
      return row;
    },
  };
}
