// Byte-level texts: how GPT-2 splits a text into pieces, and how vocabularies of bytes spell them. Which tokenizers do either is said elsewhere.

/** GPT-2's split. `\s` is written as Unicode's white space, as in the Rust library; JavaScript's differs in two characters. */
const GPT2_SPLIT =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Byte -> the character by which byte-level vocabularies spell it (GPT-2's `bytes_to_unicode`). */
export const BYTE_CHARACTERS: readonly string[] = byteCharacters();

/** A pre-tokenizer `ByteLevel` of `tokenizer.json`. */
export interface ByteLevelConfig {
  readonly add_prefix_space?: boolean;
  readonly use_regex?: boolean;
}

/** Piece -> smaller pieces, as text. */
export function splitByteLevel(config: ByteLevelConfig): (piece: string) => string[] {
  const { add_prefix_space: addSpace = false, use_regex: useRegex = true } = config;
  return piece => {
    const spaced = addSpace && !piece.startsWith(' ') ? ` ${piece}` : piece;
    return useRegex ? (spaced.match(GPT2_SPLIT) ?? []) : [spaced];
  };
}

/** Piece -> what a byte-level vocabulary calls it: a character for each byte. */
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
