// Streaming reader of JSONL lines: strict UTF-8, constant memory for any input. Does not parse JSON.

/** Longer lines are reported and skipped, not buffered. */
export const LINE_LIMIT_BYTES = 32 * 1024 * 1024;

export type Line =
  | { number: number; text: string }
  /** `byte`: 1-based byte column of the first invalid byte, or of the limit for a line that is too long. */
  | { number: number; problem: 'utf8' | 'too_long'; byte: number; message: string };

export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * Lines end in LF or CRLF, the last one optionally. A byte order mark at the start is removed. Blank lines are counted but not
 * yielded.
 */
export async function* readLines(source: ByteSource, limitBytes = LINE_LIMIT_BYTES): AsyncGenerator<Line> {
  const decode = lineDecoder(limitBytes);
  let number = 0;
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let length = 0; // Of the current line, including bytes that were not kept.

  const hold = (part: Uint8Array, copied: boolean) => {
    length += part.length;
    if (length > limitBytes + 4) {
      held = []; // 4 extra bytes for a byte order mark and a CR.
      heldBytes = 0;
    } else if (part.length > 0) {
      held.push(copied ? new Uint8Array(part) : part);
      heldBytes += part.length;
    }
  };
  const finish = (): Line | null => {
    number += 1;
    const line = decode(number, length > heldBytes ? null : join(held));
    held = [];
    heldBytes = 0;
    length = 0;
    return line;
  };

  for await (const chunk of source) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      hold(chunk.subarray(start, end), false);
      const line = finish();
      if (line !== null) yield line;
      start = end + 1;
    }
    // The source may reuse its buffer.
    hold(chunk.subarray(start), true);
  }
  if (length > 0) {
    const line = finish();
    if (line !== null) yield line;
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** Decodes a line (null: too long to be kept); returns null for a blank one. */
function lineDecoder(limitBytes: number): (number: number, bytes: Uint8Array | null) => Line | null {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return (number, bytes) => {
    if (bytes === null) return tooLong(number, limitBytes);
    const content = trim(bytes, number === 1);
    if (content.length > limitBytes) return tooLong(number, limitBytes);
    try {
      const text = decoder.decode(content);
      return /\S/.test(text) ? { number, text } : null;
    } catch {
      const byte = firstWrongByte(bytes) + 1;
      return {
        number,
        problem: 'utf8',
        byte,
        message: `line is not valid UTF-8 (byte ${byte})${utf16Hint(bytes, number)}`,
      };
    }
  };
}

function trim(bytes: Uint8Array, first: boolean): Uint8Array {
  const start = first && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  const end = bytes.at(-1) === 0x0d ? bytes.length - 1 : bytes.length;
  return bytes.subarray(start, Math.max(start, end));
}

function tooLong(number: number, limitBytes: number): Line {
  const message = `line is longer than ${limitBytes} bytes`;
  return { number, problem: 'too_long', byte: limitBytes + 1, message };
}

function utf16Hint(bytes: Uint8Array, number: number): string {
  const mark = (bytes[0] ?? 0) * 256 + (bytes[1] ?? 0);
  return number === 1 && (mark === 0xfffe || mark === 0xfeff) ? '; the file seems to be UTF-16' : '';
}

/** Offset of the first byte that makes the text invalid UTF-8. */
function firstWrongByte(bytes: Uint8Array): number {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const decodes = (length: number): boolean => {
    try {
      decoder.decode(bytes.subarray(0, length), { stream: true });
      return true;
    } catch {
      return false;
    } finally {
      reset(decoder);
    }
  };
  // Binary search for the longest prefix that decodes as a stream.
  let [good, bad] = [0, bytes.length + 1];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (decodes(middle)) good = middle;
    else bad = middle;
  }
  return Math.min(good, bytes.length);
}

function reset(decoder: TextDecoder): void {
  try {
    decoder.decode();
  } catch {
    // Expected: flushing discards an incomplete character.
  }
}
