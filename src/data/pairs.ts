// Examples of embedding models: lines of related and unrelated texts -> the tokens of each text.
import type { ExampleForm, Sequence } from './example-form.ts';
import { truncateRead } from './labelled.ts';
import type { Tokenizer } from './tokenizer.ts';

export interface PairLine {
  /** The query, such as a question. */
  anchor: string;
  /** A relevant text, such as the answer. */
  positive: string;
  /** A hard negative: similar, but not relevant. */
  negative?: string;
}

/** All tokens are marked as trained. Empty for a missing text. */
function sequenceOf(text: string | undefined, tokenizer: Tokenizer): Sequence {
  const tokens = Int32Array.from(text === undefined ? [] : tokenizer.encodeWhole(text));
  return { tokens, trained: new Uint8Array(tokens.length).fill(1) };
}

/** Sequences: anchor, positive, negative. */
export const pairForm: ExampleForm = {
  identity: 'pairs',
  sequences: 3,
  values: 0,
  generates: false,
  examples(line, tokenizer) {
    const { anchor, positive, negative } = line as PairLine;
    return [{ sequences: [anchor, positive, negative].map(text => sequenceOf(text, tokenizer)), values: [] }];
  },
  answer: () => null,
  truncate: truncateRead,
};
