// SentencePiece's `precompiled_charsmap`: character replacements in a double-array trie, applied like Hugging Face's Rust library.
// https://github.com/huggingface/spm_precompiled
import type { Normalize } from './normalizer.ts';

interface CompiledMap {
  readonly trie: Uint32Array;
  /** UTF-8 strings, zero-terminated; the values of the trie are offsets into it. */
  readonly replacements: Buffer;
}

/** Little-endian: size of the trie in bytes, trie, replacements. */
function parse(base64: string): CompiledMap {
  const bytes = Buffer.from(base64, 'base64');
  const trieBytes = bytes.readUInt32LE(0);
  const trie = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
  return { trie, replacements: bytes.subarray(4 + trieBytes) };
}

/** Replacement for the shortest prefix of the text that is in the trie; null if none is. */
function replacement({ trie, replacements }: CompiledMap, text: string): string | null {
  const offset = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
  let node = offset(trie[0]!);
  for (const byte of Buffer.from(text, 'utf8')) {
    if (byte === 0) return null;
    node ^= byte;
    const unit = trie[node]!;
    if ((unit & 0x800000ff) !== byte) return null;
    node ^= offset(unit);
    if ((unit & 0x100) === 0) continue;
    const start = trie[node]! & 0x7fffffff;
    return replacements.toString('utf8', start, replacements.indexOf(0, start));
  }
  return null;
}

/** Longer graphemes are looked up only by single characters. */
const LONGEST_GRAPHEME = 5;
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

export function compiledMap(base64: string): Normalize {
  const map = parse(base64);
  const known = new Map<string, string | null>();
  const look = (text: string): string | null => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const replaced = replacement(map, text);
    known.set(text, replaced);
    return replaced;
  };
  const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });
  const replaceGrapheme = (grapheme: string): string => {
    const whole = Buffer.byteLength(grapheme) <= LONGEST_GRAPHEME ? look(grapheme) : null;
    return whole ?? Array.from(grapheme, character => look(character) ?? character).join('');
  };
  return text => {
    const pieces = PRINTABLE_ASCII.test(text)
      ? text.split('')
      : Array.from(graphemes.segment(text), ({ segment }) => segment);
    return pieces.map(replaceGrapheme).join('');
  };
}
