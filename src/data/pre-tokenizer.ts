// How a tokenizer splits a text into the pieces that its model is given one by one. @huggingface/tokenizers does it, but where its `\s` is
// JavaScript's: there U+0085 is no white space and U+FEFF is. Byte-level splitting is in plain-text.ts.
import type { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';

export type LibraryPreTokenizer = NonNullable<HuggingFaceTokenizer['pre_tokenizer']>;

/** Pieces of a text that stands in section `section` of a sequence -> smaller pieces. */
export type PreTokenize = (pieces: string[], section: number) => string[];

interface PreTokenizerConfig {
  readonly type: string;
  readonly pretokenizers?: readonly PreTokenizerConfig[];
}

/** Words, and signs one by one. */
const BERT_SPLIT = /[^\p{White_Space}\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu;
const WORDS = /\P{White_Space}+/gu;

/** Those of our own, by the type that `tokenizer.json` names. */
const OWN: Readonly<Record<string, RegExp>> = { BertPreTokenizer: BERT_SPLIT, WhitespaceSplit: WORDS };

/** `config` is the pre-tokenizer of `tokenizer.json`, `library` what @huggingface/tokenizers made of it. */
export function preTokenizer(config: unknown, library: LibraryPreTokenizer | null): PreTokenize {
  const steps = preTokenizerChain(library, config).map(({ config, library }): PreTokenize => {
    const own = OWN[config.type];
    if (own) return pieces => pieces.flatMap(piece => piece.match(own) ?? []);
    return (pieces, section) => library.pre_tokenize(pieces, { section_index: section } as never);
  });
  return (pieces, section) => steps.reduce((smaller, step) => step(smaller, section), pieces);
}

export interface PreTokenizerStep {
  readonly config: PreTokenizerConfig;
  readonly library: LibraryPreTokenizer;
}

/** A sequence's parts; anything else alone. */
export function preTokenizerChain(library: LibraryPreTokenizer | null, config: unknown): PreTokenizerStep[] {
  if (library === null) return [];
  const { type, pretokenizers } = config as PreTokenizerConfig;
  if (type !== 'Sequence') return [{ library, config: config as PreTokenizerConfig }];
  const steps = (library as unknown as { tokenizers: LibraryPreTokenizer[] }).tokenizers;
  return steps.map((library, i) => ({ library, config: pretokenizers![i]! }));
}
