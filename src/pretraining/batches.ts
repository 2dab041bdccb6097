// The batches of pre-training. In the first phase documents are concatenated and a row is one long text; in the second
// they are separate segments of their rows, as in use. In memory: a few million tokens.
import type { Tokenizer } from '@huggingface/tokenizers';
import { type Example, tokensOf } from '../data/example-form.ts';
import { renderDocument } from './chat-format.ts';
import { createDocument } from './corpus.ts';

export interface Batch {
  readonly examples: readonly Example[];
  /** For each row, the indices of its examples. */
  readonly rows: readonly (readonly number[])[];
}

export interface BatchOptions {
  readonly tokenizer: Tokenizer;
  readonly seed: number;
  readonly count: number;
  readonly rows: number;
  readonly rowLength: number;
}

/** Every row is one example of its full length. */
export function joinedBatches({ tokenizer, seed, count, rows, rowLength }: BatchOptions): Batch[] {
  const tokens = new Int32Array(count * rows * rowLength);
  for (let document = 0, filled = 0; filled < tokens.length; document++) {
    const ids = encode(tokenizer, seed, document);
    tokens.set(ids.slice(0, tokens.length - filled), filled);
    filled += ids.length;
  }
  const rowAt = (index: number) => toExample(tokens.subarray(index * rowLength, (index + 1) * rowLength));
  const places = Array.from({ length: rows }, (_, row) => [row]);
  return Array.from({ length: count }, (_, batch) => ({
    examples: places.map(([row]) => rowAt(batch * rows + row!)),
    rows: places,
  }));
}

/** Every document is an example; a batch is full when the next one fits no row. */
export function separateBatches({ tokenizer, seed, count, rows, rowLength }: BatchOptions): Batch[] {
  let document = 0;
  let next = toExample(Int32Array.from(encode(tokenizer, seed, document)));
  return Array.from({ length: count }, () => {
    const examples: Example[] = [];
    const places: number[][] = Array.from({ length: rows }, () => []);
    const free = new Array<number>(rows).fill(rowLength);
    for (;;) {
      const length = tokensOf(next);
      const row = free.findIndex(room => room >= length);
      if (row < 0) return { examples, rows: places };
      places[row]!.push(examples.length);
      examples.push(next);
      free[row]! -= length;
      document++;
      next = toExample(Int32Array.from(encode(tokenizer, seed, document).slice(0, rowLength)));
    }
  });
}

function encode(tokenizer: Tokenizer, seed: number, document: number): number[] {
  return tokenizer.encode(renderDocument(createDocument(seed, document)), { add_special_tokens: false }).ids;
}

/** Every token is trained on except the first, which has no context. */
function toExample(tokens: Int32Array): Example {
  const trained = new Uint8Array(tokens.length).fill(1);
  trained[0] = 0;
  return { sequences: [{ tokens, trained }], values: [] };
}
