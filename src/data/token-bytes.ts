// Bytes of each token, and decoding: of whole sequences, and streaming without splitting characters.
import type { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { BYTE_CHARACTERS } from './byte-level.ts';

export interface StreamDecoder {
  /** Returns the text that this token completes; empty while a character is incomplete. */
  push(id: number): string;
  /** Returns the rest; an incomplete character becomes U+FFFD. */
  end(): string;
}

export interface TokenBytes {
  bytes(id: number): Uint8Array;
  /** The first space of a text is part of the vocabulary's spelling (SentencePiece's word mark), not of the text. */
  readonly stripsFirstSpace: boolean;
}

type BytesOfToken = (token: string) => Uint8Array;

const EMPTY = new Uint8Array(0);

export function tokenBytes(library: HuggingFaceTokenizer, decoderConfig: unknown): TokenBytes {
  const config = JSON.stringify(decoderConfig ?? {});
  const byteLevel = config.includes('"ByteLevel"');
  const wordPiece = wordPieceConfig(decoderConfig);
  const bytesOfToken = byteLevel
    ? byteLevelBytes()
    : wordPiece
      ? wordPieceBytes(wordPiece)
      : wordMarkBytes(config.includes('"ByteFallback"'));
  const added = library.get_added_tokens_decoder();
  const known = new Map<number, Uint8Array>();
  return {
    stripsFirstSpace: !byteLevel && /"Metaspace"|"Strip"|"WordPiece"/.test(config),
    bytes: id => {
      const cached = known.get(id);
      if (cached !== undefined) return cached;
      const token = library.id_to_token(id);
      const plain = added.has(id) && !wordPiece;
      const bytes = token === undefined ? EMPTY : plain ? Buffer.from(token, 'utf8') : bytesOfToken(token);
      known.set(id, bytes);
      return bytes;
    },
  };
}

export function decodeTokens(vocabulary: TokenBytes, ids: Iterable<number>): string {
  const text = Buffer.concat([...ids].map(id => vocabulary.bytes(id))).toString('utf8');
  return vocabulary.stripsFirstSpace && text.startsWith(' ') ? text.slice(1) : text;
}

/** Tokens for which `shown` is false are skipped. */
export function streamDecoder(vocabulary: TokenBytes, shown: (id: number) => boolean): StreamDecoder {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let started = !vocabulary.stripsFirstSpace;
  const strip = (text: string): string => {
    if (started || text.length === 0) return text;
    started = true;
    return text.startsWith(' ') ? text.slice(1) : text;
  };
  return {
    push: id => (shown(id) ? strip(decoder.decode(vocabulary.bytes(id), { stream: true })) : ''),
    end: () => strip(decoder.decode()),
  };
}

function byteLevelBytes(): BytesOfToken {
  const byteOf = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));
  return token => {
    const bytes = [...token].map(character => byteOf.get(character));
    return bytes.every(byte => byte !== undefined) ? Uint8Array.from(bytes) : Buffer.from(token, 'utf8');
  };
}

function wordMarkBytes(byteFallback: boolean): BytesOfToken {
  return token => {
    const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1] : undefined;
    return byte === undefined
      ? Buffer.from(token.replaceAll('\u2581', ' '), 'utf8')
      : Uint8Array.of(Number.parseInt(byte, 16));
  };
}

interface WordPieceConfig {
  readonly prefix: string;
  readonly cleanup: boolean;
}

const wordPieceConfig = (config: unknown): WordPieceConfig | null =>
  (config as { type?: string } | null)?.type === 'WordPiece' ? (config as WordPieceConfig) : null;

/** Tokens that lose the space before them in `clean_up_tokenization_spaces`. */
const CLOSE = new Set(['.', '?', '!', ',', "n't", "'m", "'s", "'ve", "'re"]);

/** Tokens that continue a word have a prefix; all others start one. */
function wordPieceBytes({ prefix, cleanup }: WordPieceConfig): BytesOfToken {
  const spelt = (token: string): string => {
    if (token.startsWith(prefix)) return token.slice(prefix.length);
    return cleanup && CLOSE.has(token) ? token : ` ${token}`;
  };
  return token => Buffer.from(spelt(token), 'utf8');
}
