// The line reader: any cutting into chunks gives the same lines; what is not UTF-8 or too long is reported, not held.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Line, readLines } from '../../src/data/jsonl.ts';

async function collect(lines: AsyncIterable<Line>): Promise<Line[]> {
  const all: Line[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

async function read(bytes: Uint8Array | Uint8Array[], limit?: number): Promise<Line[]> {
  return collect(readLines(Array.isArray(bytes) ? bytes : [bytes], limit));
}

const utf8 = (text: string) => Buffer.from(text, 'utf8');

/** An independent reading of the whole text at once. */
function expectedLines(text: string): Line[] {
  return text
    .split('\n')
    .map((line, i) => ({
      number: i + 1,
      text: (i === 0 ? line.replace(/^\ufeff/, '') : line).replace(/\r$/, ''),
    }))
    .filter(line => /\S/.test(line.text));
}

test('any chunking of a text gives the same lines', async () => {
  const piece = fc.oneof(
    fc.constantFrom('\n', '\r\n', '\r', '', ' ', '{"a":1}', '\ufeff', '👋🏽', 'é', '\n\n', '\t'),
    fc.string({ unit: 'binary', maxLength: 5 }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { maxLength: 20 }),
      fc.array(fc.nat(60), { maxLength: 12 }),
      async (parts, at) => {
        const text = parts.join('').toWellFormed();
        const bytes = utf8(text);
        const cuts = [0, ...at.filter(cut => cut < bytes.length).sort((a, b) => a - b), bytes.length];
        const chunks = cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end));
        expect(await read(chunks)).toEqual(expectedLines(text));
      },
    ),
    { numRuns: 500 },
  );
});

test('a chunk whose buffer is used again does not change lines that are open', async () => {
  const buffer = Buffer.alloc(3);
  async function* reusing() {
    for (const part of ['one', ' tw', 'o\nx']) {
      buffer.write(part);
      yield buffer;
    }
  }
  const lines = await collect(readLines(reusing()));
  expect(lines).toEqual([
    { number: 1, text: 'one two' },
    { number: 2, text: 'x' },
  ]);
});

test('byte order mark, CRLF, blank lines and a last line without an end', async () => {
  expect(await read(utf8('\ufeffa\r\n\r\n \t\nb\n\nc'))).toEqual([
    { number: 1, text: 'a' },
    { number: 4, text: 'b' },
    { number: 6, text: 'c' },
  ]);
  expect(await read(utf8(''))).toEqual([]);
  expect(await read(utf8('\ufeff'))).toEqual([]);
  expect(await read(utf8('\n\n'))).toEqual([]);
});

test.each([
  ['a lone continuation byte', [0x61, 0x80, 0x61], 2],
  ['a sequence that breaks off', [0x61, 0xc3, 0x28], 3],
  ['a sequence that ends with the line', [0x61, 0x62, 0xe2, 0x82], 5],
  ['an overlong form', [0xc0, 0xaf], 1],
  ['a surrogate', [0xed, 0xa0, 0x80], 2],
  ['beyond Unicode', [0xf4, 0x90, 0x80, 0x80], 2],
])('%s is not UTF-8', async (_, wrong, byte) => {
  const lines = await read(Buffer.concat([utf8('ok\n'), Buffer.from(wrong), utf8('\nok')]));
  expect(lines).toEqual([
    { number: 1, text: 'ok' },
    { number: 2, problem: 'utf8', byte, message: `line is not valid UTF-8 (byte ${byte})` },
    { number: 3, text: 'ok' },
  ]);
});

test('a UTF-16 file is called that', async () => {
  const [line] = await read(Buffer.from('\ufeff{"a":1}', 'utf16le'));
  expect(line).toMatchObject({
    number: 1,
    problem: 'utf8',
    message: expect.stringContaining('seems to be UTF-16'),
  });
});

test('the limit counts the bytes of the line alone', async () => {
  const lines = await read(
    utf8(`\ufeff${'x'.repeat(10)}\r\n${'y'.repeat(11)}\n${'é'.repeat(5)}\n${'z'.repeat(99)}\nlast`),
    10,
  );
  const tooLong = { problem: 'too_long', byte: 11, message: 'line is longer than 10 bytes' };
  expect(lines).toEqual([
    { number: 1, text: 'x'.repeat(10) },
    { number: 2, ...tooLong },
    { number: 3, text: 'é'.repeat(5) },
    { number: 4, ...tooLong },
    { number: 5, text: 'last' },
  ]);
});

test('a line of 600 MB is passed over in the memory of one within the limit', async () => {
  const chunk = Buffer.alloc(1 << 20, 0x78);
  let peak = 0;
  async function* huge() {
    for (let i = 0; i < 600; i++) {
      yield chunk;
      if (i % 20 === 0) peak = Math.max(peak, process.memoryUsage().arrayBuffers);
    }
    yield utf8('\nnext\n');
  }
  const before = process.memoryUsage().arrayBuffers;
  const lines = await collect(readLines(huge()));
  expect(lines).toMatchObject([
    { number: 1, problem: 'too_long' },
    { number: 2, text: 'next' },
  ]);
  expect(peak - before).toBeLessThan(120 * 1024 * 1024);
});
