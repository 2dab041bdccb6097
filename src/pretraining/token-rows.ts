// The corpus as rows of tokens, all of one length, one document after the other. In memory: it is a few million tokens.
import type { Tokenizer } from '@huggingface/tokenizers';
import type { Example } from '../data/examples.ts';
import { renderDocument } from './chat-format.ts';
import { createDocument } from './corpus.ts';

export interface TokenRows {
  readonly count: number;
  /** Every token of a row is learnt, except the first, which nothing comes before. */
  read(row: number): Example;
}

export function makeTokenRows(
  tokenizer: Tokenizer,
  seed: number,
  count: number,
  rowLength: number,
): TokenRows {
  const tokens = new Int32Array(count * rowLength);
  for (let document = 0, filled = 0; filled < tokens.length; document++) {
    const { ids } = tokenizer.encode(renderDocument(createDocument(seed, document)), {
      add_special_tokens: false,
    });
    tokens.set(ids.slice(0, tokens.length - filled), filled);
    filled += ids.length;
  }
  const trained = new Uint8Array(rowLength).fill(1);
  trained[0] = 0;
  return {
    count,
    read: row => ({ tokens: tokens.subarray(row * rowLength, (row + 1) * rowLength), trained }),
  };
}
