// Lines that say which texts belong together, and which do not -> the tokens of each text, as the model reads texts that stand alone.
import type { ExampleForm, Sequence } from './example-form.ts';
import { truncateRead } from './labelled.ts';
import type { Tokenizer } from './tokenizer.ts';

export interface PairLine {
  /** What is searched with: a question. */
  anchor: string;
  /** What should be found: its answer. */
  positive: string;
  /** What looks like it and should not be found. */
  negative?: string;
}

/** Every token counts. No tokens where there is no text. */
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
