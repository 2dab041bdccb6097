// A batch of sequences that are read and continued together: which of them run in which program, and their caches.
// It knows tokens and logits; requests, sampling and text are its callers'.
import type { HostArrays } from '../engine/program.ts';
import type { Model } from '../models/registry.ts';
import { type AdapterStack, type LoadedAdapter, stackAdapters, stackInputs } from './adapter-stack.ts';
import {
  createCache,
  type KeyValueCache,
  moveRow,
  resizeCache,
  viewRows,
  writeTokens,
} from './key-value-cache.ts';
import type { Programs } from './programs.ts';
import { HIDDEN, type StepShape } from './step.ts';

/** One sequence. */
export interface Row {
  readonly adapter: LoadedAdapter | null;
  /** The prompt and what has been generated. */
  readonly tokens: number[];
  /** How many of them are in the cache. */
  filled: number;
  /** Given the logits [vocab] after the last token; may add a token. The array is valid during the call only. */
  take(logits: Float32Array): void;
}

export interface Batch {
  readonly model: Model;
  readonly programs: Programs;
  readonly maxPiece: number;
  /** Row i lies in row i of the cache. */
  readonly rows: Row[];
  cache: KeyValueCache;
  stack: AdapterStack | null;
}

/** Programs are compiled for these sizes alone. */
export const ROW_BUCKETS = [1, 2, 4, 8, 16, 32];
const LENGTH_BUCKETS = [16, 64, 256];
const CACHE_BUCKETS = [128, 512, 2048, 8192, 32768];
/** Tokens of one run of a prompt's first pieces, all rows together. */
const MAX_FRESH_TOKENS = 2048;

/** Longer prompts are read in pieces of this, so that others go on between them. */
export const MAX_PIECE = LENGTH_BUCKETS.at(-1)!;

/** The smallest bucket that holds `needed`, or `otherwise`. */
const bucketOf = (buckets: readonly number[], needed: number, otherwise: number): number =>
  buckets.find(size => size >= needed && size <= otherwise) ?? otherwise;

export const rowBucket = (rows: number): number => bucketOf(ROW_BUCKETS, rows, ROW_BUCKETS.at(-1)!);
export const pieceBucket = (tokens: number, maxPiece: number): number =>
  bucketOf(LENGTH_BUCKETS, tokens, maxPiece);
export const cacheBucket = (tokens: number, maxPositions: number): number =>
  bucketOf(CACHE_BUCKETS, tokens, maxPositions);

export function createBatch(model: Model, programs: Programs, maxPiece: number): Batch {
  const length = cacheBucket(1, model.shape.maxPositions);
  return { model, programs, maxPiece, rows: [], cache: createCache(model.shape, 1, length), stack: null };
}

export function addRow(batch: Batch, row: Row): void {
  batch.rows.push(row);
}

/** The last row takes the place of the one that leaves. An empty batch gives its memory back. */
export function removeRow(batch: Batch, row: Row): void {
  const index = batch.rows.indexOf(row);
  const last = batch.rows.pop()!;
  if (last !== row) {
    moveRow(batch.cache, batch.rows.length, index);
    batch.rows[index] = last;
  }
  if (batch.rows.length === 0) Object.assign(batch, createBatch(batch.model, batch.programs, batch.maxPiece));
}

/** Reads one piece of prompts, if there is one to be read, and continues every row that is ready by one token. */
export async function advanceBatch(batch: Batch): Promise<void> {
  const pending = batch.rows.map(row => row.tokens.length - row.filled);
  reserve(batch);
  batch.stack = stackAdapters(
    batch.model,
    batch.stack,
    new Set(batch.rows.flatMap(row => row.adapter ?? [])),
  );
  const ready = batch.rows.filter((row, i) => row.filled > 0 && pending[i] === 1);
  const fresh = batch.rows.filter(row => row.filled === 0);
  const more = batch.rows.find((row, i) => row.filled > 0 && pending[i]! > 1);
  if (fresh.length > 0) await readFresh(batch, fresh);
  else if (more) await readMore(batch, more);
  if (ready.length > 0) await decode(batch, ready);
}

/** Makes the cache large enough for every row and every token there is. */
function reserve(batch: Batch): void {
  const { cache, model } = batch;
  const rows = rowBucket(batch.rows.length);
  const tokens = Math.max(...batch.rows.map(row => row.tokens.length));
  const length = cacheBucket(tokens, model.shape.maxPositions);
  if (rows <= cache.rows && length <= cache.length) return;
  const size = { rows: Math.max(rows, cache.rows), length: Math.max(length, cache.length) };
  const used = Math.min(batch.rows.length, cache.rows);
  batch.cache = resizeCache(cache, model.shape, size, used);
}

/** The first pieces of as many prompts as one run takes; they need no cache. */
async function readFresh(batch: Batch, fresh: readonly Row[]): Promise<void> {
  const length = pieceBucket(Math.max(...fresh.map(row => row.tokens.length)), batch.maxPiece);
  const taken = fresh.slice(0, Math.max(1, Math.floor(MAX_FRESH_TOKENS / length)));
  const rows = rowBucket(taken.length);
  await run(batch, { rows, length, cache: 0 }, taken, {});
}

/** A further piece of one prompt. */
async function readMore(batch: Batch, row: Row): Promise<void> {
  const length = pieceBucket(row.tokens.length - row.filled, batch.maxPiece);
  const cached = viewRows(batch.cache, batch.rows.indexOf(row), 1);
  await run(batch, { rows: 1, length, cache: batch.cache.length }, [row], cached);
}

/** One token of every row; rows that are not ready run along and are not written. */
async function decode(batch: Batch, ready: readonly Row[]): Promise<void> {
  const rows = rowBucket(batch.rows.length);
  const slots = batch.rows.map(row => (ready.includes(row) ? row : null));
  const cached = viewRows(batch.cache, 0, rows);
  await run(batch, { rows, length: 1, cache: batch.cache.length }, slots, cached);
}

type RunShape = Pick<StepShape, 'rows' | 'length' | 'cache'>;

/** Row i of the run is `rows[i]`; rows that are null or past the end are padding. */
async function run(
  batch: Batch,
  size: RunShape,
  rows: readonly (Row | null)[],
  cached: HostArrays,
): Promise<void> {
  const { model, programs } = batch;
  const shape: StepShape = { ...size, stack: batch.stack?.shape ?? null, logits: 'last' };
  const executable = await programs.get(shape);
  const produced = await executable.run({ ...stepInputs(shape, rows, batch.stack), ...cached });
  rows.forEach((row, index) => {
    if (!row) return;
    const count = Math.min(size.length, row.tokens.length - row.filled);
    const to = { row: batch.rows.indexOf(row), position: row.filled };
    writeTokens(batch.cache, model.shape, to, produced, { row: index, length: size.length, count });
    row.filled += count;
  });
  const { vocabSize } = model.shape;
  const logits = produced.logits as Float32Array;
  rows.forEach((row, index) => {
    if (row && row.filled === row.tokens.length)
      row.take(logits.subarray(index * vocabSize, (index + 1) * vocabSize));
  });
}

/** What a step's program is fed beside the caches: the next `length` tokens of each row, and who sees whom. */
export function stepInputs(
  shape: StepShape,
  rows: readonly (Pick<Row, 'tokens' | 'filled' | 'adapter'> | null)[],
  stack: AdapterStack | null,
): HostArrays {
  const { length, cache } = shape;
  const tokens = new Int32Array(shape.rows * length);
  const positions = new Int32Array(shape.rows * length);
  const mask = new Float32Array(shape.rows * length * (cache + length)).fill(HIDDEN);
  const last = new Int32Array(shape.rows);
  for (let index = 0; index < shape.rows; index++) {
    const row = rows[index] ?? null;
    const filled = row?.filled ?? 0;
    const count = row ? Math.min(length, row.tokens.length - filled) : 0;
    last[index] = index * length + Math.max(0, count - 1);
    for (let i = 0; i < length; i++) {
      const at = index * length + i;
      if (row && i < count) {
        tokens[at] = row.tokens[filled + i]!;
        positions[at] = filled + i;
      }
      const seen = at * (cache + length);
      mask.fill(0, seen, seen + Math.min(filled, cache));
      mask.fill(0, seen + cache, seen + cache + i + 1);
    }
  }
  const adapters = Array.from({ length: shape.rows }, (_, index) => rows[index]?.adapter ?? null);
  return {
    tokens,
    positions,
    mask,
    ...(shape.logits === 'last' ? { last } : {}),
    ...(stack ? stackInputs(stack, adapters) : {}),
  };
}
