// Normalizers of tokenizers. Uses @huggingface/tokenizers, except where it differs from the Rust library: BERT's cleaning, lower-casing
// and the character maps of SentencePiece.
import type { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { compiledMap } from './compiled-map.ts';

export type Normalize = (text: string) => string;

type LibraryNormalizer = NonNullable<HuggingFaceTokenizer['normalizer']>;

interface NormalizerConfig {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Our implementations, by `type` in `tokenizer.json`. */
const OWN: Readonly<Record<string, (config: NormalizerConfig) => Normalize>> = {
  BertNormalizer: bertNormalizer,
  Lowercase: () => lowerCase,
  Precompiled: ({ precompiled_charsmap }) => compiledMap(precompiled_charsmap as string),
};

/** `config`: normalizer of `tokenizer.json`; `library`: the same, built by @huggingface/tokenizers. */
export function normalizer(config: unknown, library: LibraryNormalizer | null): Normalize {
  if (library === null) return text => text;
  const { type, normalizers } = config as NormalizerConfig;
  if (type !== 'Sequence') return OWN[type]?.(config as NormalizerConfig) ?? (text => library(text));
  const parts = (library as unknown as { normalizers: LibraryNormalizer[] }).normalizers;
  const steps = (normalizers as unknown[]).map((step, i) => normalizer(step, parts[i]!));
  return text => steps.reduce((changed, step) => step(changed), text);
}

/** Character by character, like Rust: a final sigma becomes σ, not ς. */
const lowerCase: Normalize = text => text.replaceAll('Σ', 'σ').toLowerCase();

/** Ranges of https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/normalizers/bert.rs, including their gap. */
const CHINESE =
  /[\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{2F800}-\u{2FA1F}]/gu;

function bertNormalizer(config: NormalizerConfig): Normalize {
  const { clean_text, handle_chinese_chars, lowercase, strip_accents } = config;
  const steps: Normalize[] = [];
  if (clean_text) {
    steps.push(text =>
      text.replace(/(?![\t\n\r])[\0\uFFFD\p{Cc}\p{Cf}\p{Co}]/gu, '').replace(/\p{White_Space}/gu, ' '),
    );
  }
  if (handle_chinese_chars) steps.push(text => text.replace(CHINESE, ' $& '));
  if (strip_accents ?? lowercase) steps.push(text => text.normalize('NFD').replace(/\p{Mn}/gu, ''));
  if (lowercase) steps.push(lowerCase);
  return text => steps.reduce((changed, step) => step(changed), text);
}
