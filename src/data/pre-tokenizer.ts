// How a tokenizer splits a text into the pieces that its model is given one by one. @huggingface/tokenizers does it, but where its `\s` is
// JavaScript's (there U+0085 is no white space and U+FEFF is), and where its digits are 0 to 9 alone. How bytes are spelled is byte-level.ts'.
import type { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { type ByteLevelConfig, spellBytes, splitByteLevel } from './byte-level.ts';

export type LibraryPreTokenizer = NonNullable<HuggingFaceTokenizer['pre_tokenizer']>;

/** Pieces of a text that stands in section `section` of a sequence -> smaller pieces. */
export type PreTokenize = (pieces: string[], section: number) => string[];

type Split = (piece: string) => string[];

interface PreTokenizerConfig extends ByteLevelConfig {
  readonly type: string;
  readonly individual_digits?: boolean;
  readonly pretokenizers?: readonly PreTokenizerConfig[];
}

/** Words, and signs one by one. */
const BERT_SPLIT = /[^\p{White_Space}\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu;
const WORDS = /\P{White_Space}+/gu;

const DIGIT_RUNS = /\p{N}+|\P{N}+/gu;
const DIGITS_ALONE = /\p{N}|\P{N}+/gu;

const matches =
  (pattern: RegExp): Split =>
  piece =>
    piece.match(pattern) ?? [];

/** Those of our own, by the type that `tokenizer.json` names. */
const OWN: Readonly<Record<string, (config: PreTokenizerConfig) => Split>> = {
  BertPreTokenizer: () => matches(BERT_SPLIT),
  ByteLevel: config => {
    const split = splitByteLevel(config);
    return piece => split(piece).map(spellBytes);
  },
  Digits: ({ individual_digits }) => matches(individual_digits ? DIGITS_ALONE : DIGIT_RUNS),
  WhitespaceSplit: () => matches(WORDS),
};

/** `config` is the pre-tokenizer of `tokenizer.json`, `library` what @huggingface/tokenizers made of it. */
export function preTokenizer(config: unknown, library: LibraryPreTokenizer | null): PreTokenize {
  const steps = preTokenizerChain(library, config).map(({ config, library }): PreTokenize => {
    const own = OWN[config.type]?.(config);
    if (own) return pieces => pieces.flatMap(own);
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
