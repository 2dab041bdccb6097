// A tokenized training file. Created once per file, form, tokenizer and maximum length, kept in a binary cache and read by index.
// Memory is constant except for 12 bytes per example and 4 per sequence. Does not validate, shuffle or pack.
//
// A cache entry is a folder, which appears only once complete: `tokens.bin` has a uint32 per token (top bit: trained), `index.bin`
// a uint32 per sequence (its length), `values.bin` a float32 per value, `meta.json` the counts. All little-endian.
import { createHash, randomUUID } from 'node:crypto';
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TemplateError } from './chat-template.ts';
import {
  type Example,
  type ExampleForm,
  rowLengthOf,
  type Sequence,
  sumOf,
  tokensOf,
  trainedTokensOf,
  truncateSequence,
} from './example-form.ts';
import { readLines } from './jsonl.ts';
import type { Tokenizer } from './tokenizer.ts';

const FORMAT = 'anneal-dataset-3';
const TRAINED = 0x80000000;

export interface TokenizeProgress {
  bytes: number;
  totalBytes: number;
  examples: number;
}

export interface TokenizeFileOptions {
  /** JSONL that has passed validation. */
  file: string;
  /** How lines become examples. */
  form: ExampleForm;
  tokenizer: Tokenizer;
  /** Longer sequences are truncated. */
  maxLength: number;
  cacheDirectory: string;
  /** Called about once per megabyte. */
  onProgress?: (progress: TokenizeProgress) => void;
  signal?: AbortSignal;
}

export interface DatasetCounts {
  /** Examples with at least one training target: those that `read` returns. */
  count: number;
  /** Lines with an example. */
  lines: number;
  tokens: number;
  /** Trained tokens per epoch. */
  trainedTokens: number;
  /** Examples truncated to `maxLength`. */
  truncated: number;
  /** Examples without a training target after truncation; not included in `count`. */
  dropped: number;
  /** Only for forms that compare answers; otherwise null. */
  equalAnswers: EqualAnswers | null;
}

/** Examples whose two answers have the same tokens after truncation, and so no gradient. */
export interface EqualAnswers {
  count: number;
  /** Line numbers of the first KEPT_LINES. */
  lines: number[];
}

const KEPT_LINES = 100;

export interface Dataset extends DatasetCounts {
  /** sha256 of the JSONL file. */
  readonly sha256: string;
  readonly maxLength: number;
  /** Length of each example in a packed row: the tokens of all its sequences, unless the form defines `rowLength`. */
  readonly lengths: Uint32Array;
  read(index: number): Example;
  close(): void;
}

/** A line that cannot be tokenized: it would not pass validation, or the chat template rejects it. */
export class DatasetError extends Error {
  override name = 'DatasetError';
  readonly line: number;
  constructor(line: number, reason: string, options?: ErrorOptions) {
    super(`Line ${line}: ${reason}`, options);
    this.line = line;
  }
}

/** Opens the dataset in the cache, tokenizing the file first if needed. Throws DatasetError. */
export async function tokenizeFile(options: TokenizeFileOptions): Promise<Dataset> {
  const sha256 = await hashFile(options.file, options.signal);
  const directory = join(options.cacheDirectory, cacheKey(sha256, options));
  if (!(await exists(join(directory, 'meta.json')))) await buildCache(directory, options);
  return openDataset(directory, sha256, options);
}

function cacheKey(sha256: string, { form, tokenizer, maxLength }: TokenizeFileOptions): string {
  return createHash('sha256')
    .update(`${FORMAT}\n${sha256}\n${form.identity}\n${tokenizer.identity}\n${maxLength}`)
    .digest('hex')
    .slice(0, 32);
}

async function hashFile(file: string, signal?: AbortSignal): Promise<string> {
  const digest = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, signal })) digest.update(chunk);
  return digest.digest('hex');
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

/** Written to a temporary folder and renamed; if another process is first, its result is kept. */
async function buildCache(directory: string, options: TokenizeFileOptions): Promise<void> {
  const building = `${directory}.${randomUUID()}.partial`;
  await mkdir(building, { recursive: true });
  try {
    const counts = await writeExamples(building, options);
    await writeFile(join(building, 'meta.json'), JSON.stringify(counts), { flush: true });
    await rename(building, directory).catch(async error => {
      if (!(await exists(join(directory, 'meta.json')))) throw error;
    });
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

async function writeExamples(directory: string, options: TokenizeFileOptions): Promise<DatasetCounts> {
  const counts = noExamples(options.form);
  const [tokens, index, values] = await Promise.all(
    ['tokens.bin', 'index.bin', 'values.bin'].map(name => openNumbers(join(directory, name))),
  );
  try {
    for await (const { number, line } of parsedLines(options, counts)) {
      options.signal?.throwIfAborted();
      counts.lines += 1;
      for (const whole of examplesOf(line, number, options)) {
        const example = takeExample(whole, number, options, counts);
        if (example === null) continue;
        for (const sequence of example.sequences) {
          await tokens!.add(sequence.tokens.length, at => packWord(sequence, at));
          await index!.add(1, () => sequence.tokens.length);
        }
        await values!.add(example.values.length, at => floatBits(example.values[at]!));
      }
    }
  } finally {
    for (const file of [tokens!, index!, values!]) await file.close();
  }
  return counts;
}

const packWord = ({ tokens, trained }: Sequence, at: number) => (tokens[at]! | (trained[at]! << 31)) >>> 0;

const floatBits = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;

export const noExamples = ({ compares }: Pick<ExampleForm, 'compares'>): DatasetCounts => ({
  count: 0,
  lines: 0,
  tokens: 0,
  trainedTokens: 0,
  truncated: 0,
  dropped: 0,
  equalAnswers: compares ? { count: 0, lines: [] } : null,
});

/** Everything that determines how lines are tokenized. */
export type Taking = Pick<TokenizeFileOptions, 'form' | 'tokenizer' | 'maxLength'>;

/** Truncates an example and counts it; null if no training target is left. */
export function takeExample(
  whole: Example,
  line: number,
  taking: Taking,
  counts: DatasetCounts,
): Example | null {
  const { truncate = truncateSequence, teaches = hasTrained } = taking.form;
  const sequences = whole.sequences.map(sequence => truncate(sequence, taking.maxLength, taking.tokenizer));
  if (sequences.some((sequence, i) => sequence !== whole.sequences[i])) counts.truncated += 1;
  const example = { ...whole, sequences };
  if (!teaches(example)) {
    counts.dropped += 1;
    return null;
  }
  counts.count += 1;
  counts.tokens += tokensOf(example);
  counts.trainedTokens += trainedTokensOf(example);
  if (counts.equalAnswers) noteEqual(counts.equalAnswers, line, example);
  return example;
}

function noteEqual(equal: EqualAnswers, line: number, { sequences: [one, other] }: Example): void {
  if (!arraysEqual(one!.tokens, other!.tokens)) return;
  equal.count += 1;
  if (equal.lines.length < KEPT_LINES) equal.lines.push(line);
}

const arraysEqual = (a: Int32Array, b: Int32Array): boolean =>
  a.length === b.length && a.every((token, i) => token === b[i]);

const hasTrained = (example: Example): boolean => trainedTokensOf(example) > 0;

/** Throws DatasetError if the chat template rejects the line. */
export function examplesOf(
  line: unknown,
  number: number,
  { form, tokenizer }: Pick<Taking, 'form' | 'tokenizer'>,
): Example[] {
  try {
    return form.examples(line, tokenizer);
  } catch (cause) {
    if (!(cause instanceof TemplateError)) throw cause;
    throw new DatasetError(number, `the model's chat template refuses it: ${cause.message}`, { cause });
  }
}

async function* parsedLines(options: TokenizeFileOptions, counts: DatasetCounts) {
  const { file, onProgress, signal } = options;
  const totalBytes = (await stat(file)).size;
  let bytes = 0;
  async function* chunks() {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, signal })) {
      yield chunk as Buffer;
      bytes += chunk.length;
      onProgress?.({ bytes, totalBytes, examples: counts.count });
    }
  }
  for await (const line of readLines(chunks())) {
    if ('problem' in line) throw new DatasetError(line.number, line.message);
    yield { number: line.number, line: parseLine(line.text, line.number) };
  }
}

function parseLine(text: string, number: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DatasetError(number, 'line contains invalid json', { cause });
  }
}

interface NumberFile {
  add(count: number, value: (i: number) => number): Promise<void>;
  close(): Promise<void>;
}

/** Writer of a uint32 file, buffered by the megabyte. */
async function openNumbers(path: string): Promise<NumberFile> {
  const file: FileHandle = await open(path, 'wx');
  const buffer = Buffer.alloc(1 << 20);
  let used = 0;
  const flush = async () => {
    for (let done = 0; done < used; ) done += (await file.write(buffer, done, used - done)).bytesWritten;
    used = 0;
  };
  return {
    add: async (count, value) => {
      for (let i = 0; i < count; i++) {
        if (used === buffer.length) await flush();
        buffer.writeUInt32LE(value(i), used);
        used += 4;
      }
    },
    close: async () => {
      await flush();
      await file.sync();
      await file.close();
    },
  };
}

async function openDataset(
  directory: string,
  sha256: string,
  { form, maxLength }: TokenizeFileOptions,
): Promise<Dataset> {
  const counts: DatasetCounts = JSON.parse(await readFile(join(directory, 'meta.json'), 'utf8'));
  const sequenceLengths = new Uint32Array(await readBuffer(directory, 'index.bin'));
  const values = new Float32Array(await readBuffer(directory, 'values.bin'));
  const lengths = new Uint32Array(counts.count);
  // Example i is at starts[i] to starts[i + 1].
  const starts = new Float64Array(counts.count + 1);
  const lengthsOf = (index: number) =>
    sequenceLengths.subarray(index * form.sequences, (index + 1) * form.sequences);
  for (let i = 0; i < counts.count; i++) {
    const all = Array.from(lengthsOf(i));
    lengths[i] = rowLengthOf(form, all);
    starts[i + 1] = starts[i]! + sumOf(all);
  }
  const descriptor = openSync(join(directory, 'tokens.bin'), 'r');
  return {
    ...counts,
    sha256,
    maxLength,
    lengths,
    read: index => {
      if (!(index in lengths)) throw new RangeError(`No example ${index}; there are ${lengths.length}`);
      const length = starts[index + 1]! - starts[index]!;
      const words = new Uint32Array(length);
      const bytes = readSync(descriptor, words, 0, length * 4, starts[index]! * 4);
      if (bytes !== length * 4) throw new Error(`Dataset cache ${directory} is cut short`);
      return {
        sequences: unpackSequences(words, lengthsOf(index)),
        values: values.subarray(index * form.values, (index + 1) * form.values),
      };
    },
    close: () => closeSync(descriptor),
  };
}

async function readBuffer(directory: string, name: string): Promise<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = await readFile(join(directory, name));
  return (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength);
}

function unpackSequences(words: Uint32Array, lengths: Uint32Array): Sequence[] {
  let end = 0;
  return Array.from(lengths, length => {
    end += length;
    return unpackWords(words.subarray(end - length, end));
  });
}

function unpackWords(words: Uint32Array): Sequence {
  const tokens = new Int32Array(words.length);
  const trained = new Uint8Array(words.length);
  for (let i = 0; i < words.length; i++) {
    tokens[i] = words[i]! & ~TRAINED;
    trained[i] = words[i]! >>> 31;
  }
  return { tokens, trained };
}
