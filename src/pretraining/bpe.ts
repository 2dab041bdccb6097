// Trains a byte-level BPE vocabulary and writes it as a Hugging Face `tokenizer.json`. It does not encode.

/** GPT-2's splitting, as the `ByteLevel` pre-tokenizer of Hugging Face does it. */
const PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

export interface BpeVocabulary {
  /** Special tokens first, then the 256 bytes, then one token for each merge. */
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

/** Bytes as printable characters, GPT-2's table: `Ġ` is a space. */
export function byteAlphabet(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

/** Counts the pieces of texts. Pieces, and therefore tokens, never cross word boundaries. */
export function countPieces(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [piece] of text.matchAll(PIECES)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  }
  return counts;
}

/** Merges the most frequent pairs until there are `size` tokens; ties go to the pair that sorts first. */
export function trainBpe(
  counts: ReadonlyMap<string, number>,
  special: readonly string[],
  size: number,
): BpeVocabulary {
  const alphabet = byteAlphabet();
  const words = [...counts].map(([piece, count]) => ({
    count,
    symbols: [...Buffer.from(piece, 'utf8')].map(byte => alphabet[byte]!),
  }));
  const merges: [string, string][] = [];
  const tokens = [...special, ...alphabet];
  while (tokens.length < size) {
    const best = mostFrequentPair(words);
    if (!best) break;
    merges.push(best);
    tokens.push(best.join(''));
    for (const word of words) word.symbols = mergePair(word.symbols, best);
  }
  return { tokens, merges };
}

interface Word {
  readonly count: number;
  symbols: string[];
}

function mostFrequentPair(words: readonly Word[]): [string, string] | null {
  const pairs = new Map<string, number>();
  for (const { symbols, count } of words) {
    for (let i = 1; i < symbols.length; i++) {
      const pair = `${symbols[i - 1]} ${symbols[i]}`;
      pairs.set(pair, (pairs.get(pair) ?? 0) + count);
    }
  }
  let best: string | null = null;
  let most = 1;
  for (const [pair, count] of pairs) {
    if (count > most || (count === most && best !== null && pair < best)) [best, most] = [pair, count];
  }
  return best === null ? null : (best.split(' ') as [string, string]);
}

function mergePair(symbols: string[], [left, right]: readonly [string, string]): string[] {
  const merged: string[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const both = symbols[i] === left && symbols[i + 1] === right;
    merged.push(both ? left + right : symbols[i]!);
    if (both) i++;
  }
  return merged.length === symbols.length ? symbols : merged;
}

/** `tokenizer.json` as Python's `tokenizers` writes it; `beginning` is prepended to every text. */
export function tokenizerJson(
  vocabulary: BpeVocabulary,
  special: readonly string[],
  beginning: string,
): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const begin = { SpecialToken: { id: beginning, type_id: 0 } };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [begin, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [begin, { Sequence: { id: 'A', type_id: 0 } }, begin, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: {
        [beginning]: { id: beginning, ids: [vocabulary.tokens.indexOf(beginning)], tokens: [beginning] },
      },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.tokens.map((token, id) => [token, id])),
      merges: vocabulary.merges,
    },
  };
}
