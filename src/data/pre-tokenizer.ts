// Pre-tokenizers: split a text into the pieces that the model of the vocabulary encodes. Uses @huggingface/tokenizers, except where its
// `\s` (which lacks U+0085 and has U+FEFF) or its digits (only 0 to 9) differ from the Rust library. Byte mapping is in byte-level.ts.
import type { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { type ByteLevelConfig, spellBytes, splitByteLevel } from './byte-level.ts';

export type LibraryPreTokenizer = NonNullable<HuggingFaceTokenizer['pre_tokenizer']>;

/** Splits pieces further; `section`: index of the text's section in its sequence. */
export type PreTokenize = (pieces: string[], section: number) => string[];

type Split = (piece: string) => string[];

interface PreTokenizerConfig extends ByteLevelConfig {
  readonly type: string;
  readonly individual_digits?: boolean;
  readonly pretokenizers?: readonly PreTokenizerConfig[];
}

/** Words and single punctuation characters. */
const BERT_SPLIT = /[^\p{White_Space}\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu;
const WORDS = /\P{White_Space}+/gu;

const DIGIT_RUNS = /\p{N}+|\P{N}+/gu;
const DIGITS_ALONE = /\p{N}|\P{N}+/gu;

const matches =
  (pattern: RegExp): Split =>
  piece =>
    piece.match(pattern) ?? [];

/** Our implementations, by `type` in `tokenizer.json`. */
const OWN: Readonly<Record<string, (config: PreTokenizerConfig) => Split>> = {
  BertPreTokenizer: () => matches(BERT_SPLIT),
  ByteLevel: config => {
    const split = splitByteLevel(config);
    return piece => split(piece).map(spellBytes);
  },
  Digits: ({ individual_digits }) => matches(individual_digits ? DIGITS_ALONE : DIGIT_RUNS),
  WhitespaceSplit: () => matches(WORDS),
};

/** `config`: pre-tokenizer of `tokenizer.json`; `library`: the same, built by @huggingface/tokenizers. */
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

/** The steps of a sequence; a single step for other types. */
export function preTokenizerChain(library: LibraryPreTokenizer | null, config: unknown): PreTokenizerStep[] {
  if (library === null) return [];
  const { type, pretokenizers } = config as PreTokenizerConfig;
  if (type !== 'Sequence') return [{ library, config: config as PreTokenizerConfig }];
  const steps = (library as unknown as { tokenizers: LibraryPreTokenizer[] }).tokenizers;
  return steps.map((library, i) => ({ library, config: pretokenizers![i]! }));
}
