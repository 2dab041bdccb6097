// Packs examples of different lengths into rows of one length, first-fit decreasing. Who may attend whom is said by
// `segments`; nothing here knows of attention.
import type { Sequence } from './example-form.ts';

export interface PackedRow {
  /** Padded with 0. */
  tokens: Int32Array;
  /** The token to predict at each position; -1 where nothing is learnt. */
  targets: Int32Array;
  /** Start again at 0 with each sequence; 0 in the padding. */
  positions: Int32Array;
  /** 1..n, a sequence each, in row order; 0 is padding. */
  segments: Int32Array;
}

/**
 * Which examples go into which row: for each row, indices into `lengths`. Deterministic; the longest go first, equal
 * ones in their order. O(n log n). Throws RangeError for an example longer than a row.
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

/** Lays sequences out in one row; their lengths together must not pass `rowLength`. */
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

/** Nothing but padding: makes a batch of rows as many as a compiled program expects. */
export function emptyRow(rowLength: number): PackedRow {
  return {
    tokens: new Int32Array(rowLength),
    targets: new Int32Array(rowLength).fill(-1),
    positions: new Int32Array(rowLength),
    segments: new Int32Array(rowLength),
  };
}

/** Room left in `rows` rows, as a tree of maxima: the first row with enough of it is found in log time. */
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
