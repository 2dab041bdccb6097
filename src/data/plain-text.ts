// Text without control tokens -> token ids, by the parts of @huggingface/tokenizers, with a cache of pieces.
// It knows no special tokens, no templates and adds nothing.
import type { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { spellBytes, splitByteLevel } from './byte-level.ts';
import { normalizer } from './normalizer.ts';
import { type LibraryPreTokenizer, preTokenizer, preTokenizerChain } from './pre-tokenizer.ts';

/** Ids of a text that stands in section `section` of a sequence (some pre-tokenizers treat the first one differently). */
export type EncodePlain = (text: string, section: number) => number[];

/** Pieces kept; about 20 MB when full. Natural text repeats: 97% of the pieces of English chats are found in it. */
const CACHE_PIECES = 200_000;
const CACHE_PIECE_LENGTH = 64;

/** A longer piece (a run of letters without a space) is encoded in parts: merging takes 200 bytes a character. */
const PIECE_LIMIT = 65_536;

interface Splitter {
  /** Text -> pieces that are encoded independently of each other. */
  split(text: string, section: number): string[];
  /** Piece -> what the vocabulary's model is given. */
  spell(piece: string): string;
}

/** The parts of `tokenizer.json`. */
export interface TokenizerJson {
  readonly normalizer?: unknown;
  readonly pre_tokenizer?: unknown;
}

/** Ids of pieces, where they are not their places in the vocabulary that the text is cut by. */
export interface PieceIds {
  readonly ids: ReadonlyMap<string, number>;
  readonly unknownId: number;
}

export function plainTextEncoder(
  library: HuggingFaceTokenizer,
  json: TokenizerJson,
  specialIds: ReadonlySet<number>,
  given: PieceIds | null = null,
): EncodePlain {
  const model = library.model!;
  const normalize = normalizer(json.normalizer, library.normalizer);
  const splitter =
    byteLevelSplitter(library.pre_tokenizer, json.pre_tokenizer) ??
    generalSplitter(library, json.pre_tokenizer);
  const cache = new Map<string, readonly number[]>();
  const { ids, unknownId } = given ?? { ids: model.tokens_to_ids, unknownId: model.unk_token_id };

  const encodeSpelling = (spelling: string): number[] =>
    model([spelling]).flatMap((token: string) => ids.get(token) ?? unknownId ?? []);
  const encodePiece = (piece: string): readonly number[] => {
    const encoded = encodeSpelling(splitter.spell(piece));
    if (!encoded.some(id => specialIds.has(id) && id !== unknownId)) return encoded;
    // A text that is itself a special token's name, in a vocabulary that takes whole words first: spelled out instead.
    return [...splitter.spell(piece)].flatMap(character => encodeSpelling(character));
  };
  const cachedPiece = (piece: string): readonly number[] => {
    const known = cache.get(piece);
    if (known !== undefined) return known;
    if (piece.length > PIECE_LIMIT) return parts(piece).flatMap(encodePiece);
    const encoded = encodePiece(piece);
    if (piece.length <= CACHE_PIECE_LENGTH) {
      if (cache.size >= CACHE_PIECES) cache.clear();
      cache.set(piece, encoded);
    }
    return encoded;
  };

  return (text, section) => {
    const result: number[] = [];
    if (text.length === 0) return result;
    const normalized = normalize(text);
    if (normalized.length === 0) return result;
    for (const piece of splitter.split(normalized, section)) {
      for (const id of cachedPiece(piece)) result.push(id);
    }
    return result;
  };
}

/** For `ByteLevel`, alone or at the end of a sequence: pieces stay as text, so that the cache is asked before bytes are spelled. */
function byteLevelSplitter(library: LibraryPreTokenizer | null, config: unknown): Splitter | null {
  const chain = preTokenizerChain(library, config);
  const last = chain.at(-1);
  if (last?.config.type !== 'ByteLevel') return null;
  const before = chain.slice(0, -1).map(step => preTokenizer(step.config, step.library));
  const finish = splitByteLevel(last.config);
  return {
    split: (text, section) => {
      let pieces = [text];
      for (const step of before) pieces = step(pieces, section);
      return pieces.flatMap(finish);
    },
    spell: spellBytes,
  };
}

/** Everything else, SentencePiece-like vocabularies above all: the library's pieces, cut at words where that cannot change the result. */
function generalSplitter(library: HuggingFaceTokenizer, config: unknown): Splitter {
  const preTokenize = preTokenizer(config, library.pre_tokenizer);
  // No token holds a word mark after another character: no merge can cross the start of a word.
  const wordsApart = !library.model!.vocab.some((token: string | undefined) =>
    /[^\u2581]\u2581/u.test(token ?? ''),
  );
  const cut = (piece: string) =>
    wordsApart ? (piece.match(/\u2581+[^\u2581]*|[^\u2581]+/gu) ?? []) : [piece];
  return {
    split: (text, section) => preTokenize([text], section).flatMap(cut),
    spell: piece => piece,
  };
}

/** Cut between characters. */
function parts(piece: string): string[] {
  const cut: string[] = [];
  for (let start = 0; start < piece.length; ) {
    let end = start + PIECE_LIMIT;
    if ((piece.charCodeAt(end) & 0xfc00) === 0xdc00) end += 1;
    cut.push(piece.slice(start, end));
    start = end;
  }
  return cut;
}
