// Byte-level BPE text: GPT-2's pre-tokenizer and its byte-to-character mapping. Which tokenizers use them is decided by the callers.

/** GPT-2's split. White space is Unicode's, as in the Rust library; JavaScript's `\s` differs in two characters. */
const GPT2_SPLIT =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Byte -> its character in byte-level vocabularies (GPT-2's `bytes_to_unicode`). */
export const BYTE_CHARACTERS: readonly string[] = byteCharacters();

/** A `ByteLevel` pre-tokenizer in `tokenizer.json`. */
export interface ByteLevelConfig {
  readonly add_prefix_space?: boolean;
  readonly use_regex?: boolean;
}

/** Splits a piece into smaller pieces, still as text. */
export function splitByteLevel(config: ByteLevelConfig): (piece: string) => string[] {
  const { add_prefix_space: addSpace = false, use_regex: useRegex = true } = config;
  return piece => {
    const spaced = addSpace && !piece.startsWith(' ') ? ` ${piece}` : piece;
    return useRegex ? (spaced.match(GPT2_SPLIT) ?? []) : [spaced];
  };
}

/** Maps a piece to its spelling in byte-level vocabularies: one character per byte. */
export function spellBytes(piece: string): string {
  let spelling = '';
  for (const byte of Buffer.from(piece, 'utf8')) spelling += BYTE_CHARACTERS[byte];
  return spelling;
}

function byteCharacters(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}
