// Continuous batching: schedules prefill and decoding of sequences and owns their KV caches.
// Deals in tokens and logits; requests, sampling and text are left to the callers.
import type { HostArrays } from '../engine/program.ts';
import type { ModelShape } from '../models/architecture.ts';
import type { GenerativeModel } from '../models/registry.ts';
import { type AdapterStack, type LoadedAdapter, stackAdapters, stackInputs } from './adapter-stack.ts';
import {
  createCache,
  type KeyValueCache,
  moveRow,
  resizeCache,
  sourceCacheNames,
  viewRows,
  writeTokens,
} from './key-value-cache.ts';
import type { Programs } from './programs.ts';
import { HIDDEN, type SourceShape, type StepShape } from './step.ts';

/** One sequence. */
export interface Row {
  readonly adapter: LoadedAdapter | null;
  /** Source tokens of an encoder-decoder; null for others. */
  readonly source: readonly number[] | null;
  /** The prompt (with a source: the start token) and the generated tokens. */
  readonly tokens: number[];
  /** How many of them are in the KV cache. */
  filled: number;
  /** Whether `take` gets the logits: copying them costs more than the argmax in the graph. */
  readonly readsLogits: boolean;
  /** Called with the most probable next token and the logits [vocab], which are valid during the call only; may add a token. */
  take(best: number, logits: Float32Array | null): void;
}

export interface Batch {
  readonly model: GenerativeModel;
  readonly programs: Programs;
  readonly maxPiece: number;
  /** Row i occupies row i of the caches. */
  readonly rows: Row[];
  cache: KeyValueCache;
  /** Cross-attention keys and values of an encoder-decoder. */
  sources: KeyValueCache | null;
  stack: AdapterStack | null;
}

/** Bucketed, because each shape is a compiled program. */
export const ROW_BUCKETS = [1, 2, 4, 8, 16, 32];
const LENGTH_BUCKETS = [16, 32, 64, 128, 256];
/** A step reads the whole cache: 32 rows of GPT-2 take 20 ms at 128 tokens, 70 ms at 512. */
const CACHE_BUCKETS = [128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768];
/**
 * Maximum tokens of a prefill run over all rows. More rows save no time per row (Llama 160M, 64 tokens: 51 ms each for 8 rows, 54 ms
 * for 32) and delay those already prefilled.
 */
const MAX_FRESH_TOKENS = 512;
/** Prefill tokens, in several runs, between two decoding steps. */
const MAX_TOKENS_BETWEEN = 2048;
/** Minimum fraction of a prefill run's rows in use; otherwise a smaller run is made and the rest wait for the next. */
const LEAST_FILLED = 3 / 4;

/** Chunked prefill: longer prompts are split, so that other sequences decode in between. */
export const MAX_PIECE = LENGTH_BUCKETS.at(-1)!;

/** The smallest bucket of at least `needed`, or `otherwise`. */
const bucketOf = (buckets: readonly number[], needed: number, otherwise: number): number =>
  buckets.find(size => size >= needed && size <= otherwise) ?? otherwise;

export const rowBucket = (rows: number): number => bucketOf(ROW_BUCKETS, rows, ROW_BUCKETS.at(-1)!);
export const pieceBucket = (tokens: number, maxPiece: number): number =>
  bucketOf(LENGTH_BUCKETS, tokens, maxPiece);
export const cacheBucket = (tokens: number, maxPositions: number): number =>
  bucketOf(CACHE_BUCKETS, tokens, maxPositions);

/** An encoder takes its source whole. */
const SOURCE_BUCKETS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

export const sourceBucket = (tokens: number, { maxPositions }: ModelShape): number =>
  bucketOf(SOURCE_BUCKETS, tokens, maxPositions);

export const createSources = (shape: ModelShape, rows: number, length: number): KeyValueCache =>
  createCache(shape, rows, length, sourceCacheNames(shape));

export function createBatch(model: GenerativeModel, programs: Programs, maxPiece: number): Batch {
  const { shape, kind } = model;
  const cache = createCache(shape, 1, cacheBucket(1, shape.maxPositions));
  const sources = kind === 'encoder-decoder' ? createSources(shape, 1, sourceBucket(1, shape)) : null;
  return { model, programs, maxPiece, rows: [], cache, sources, stack: null };
}

const cachesOf = ({ cache, sources }: Batch): KeyValueCache[] => (sources ? [cache, sources] : [cache]);

export function addRow(batch: Batch, row: Row): void {
  batch.rows.push(row);
}

/** The last row moves into the freed place. An empty batch releases its memory. */
export function removeRow(batch: Batch, row: Row): void {
  const index = batch.rows.indexOf(row);
  const last = batch.rows.pop()!;
  if (last !== row) {
    for (const cache of cachesOf(batch)) moveRow(cache, batch.rows.length, index);
    batch.rows[index] = last;
  }
  if (batch.rows.length === 0) Object.assign(batch, createBatch(batch.model, batch.programs, batch.maxPiece));
}

/** Copies the cache of `from` to `to`, which joins the batch if it is not in it. Both have the same source. */
export function branchRow(batch: Batch, from: Row, to: Row): void {
  const joins = !batch.rows.includes(to);
  if (joins) {
    batch.rows.push(to);
    reserve(batch);
  }
  const [source, target] = [batch.rows.indexOf(from), batch.rows.indexOf(to)];
  for (const cache of joins ? cachesOf(batch) : [batch.cache]) moveRow(cache, source, target);
  to.filled = from.filled;
}

/** Prefills pending prompts, then decodes one token for every row that is ready. */
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
  if (fresh.length > 0) await readAllFresh(batch, fresh);
  else if (more) await readMore(batch, more);
  if (ready.length > 0) await decode(batch, ready);
}

/** Grows the caches to fit all rows and their tokens. */
function reserve(batch: Batch): void {
  const { rows, model } = batch;
  const longest = (of: (row: Row) => ArrayLike<number>): number =>
    Math.max(...rows.map(row => of(row).length));
  const length = cacheBucket(
    longest(row => row.tokens),
    model.shape.maxPositions,
  );
  batch.cache = enlarged(batch, batch.cache, length);
  if (batch.sources)
    batch.sources = enlarged(
      batch,
      batch.sources,
      sourceBucket(
        longest(row => row.source!),
        model.shape,
      ),
    );
}

function enlarged({ rows, model }: Batch, cache: KeyValueCache, length: number): KeyValueCache {
  const needed = rowBucket(rows.length);
  if (needed <= cache.rows && length <= cache.length) return cache;
  const size = { rows: Math.max(needed, cache.rows), length: Math.max(length, cache.length) };
  return resizeCache(cache, model.shape, size, Math.min(rows.length, cache.rows));
}

interface FreshLength {
  readonly length: number;
  /** Length of the source; 0 without one. */
  readonly read: number;
}

function freshLength({ model, maxPiece }: Batch, { tokens, source }: Row): FreshLength {
  // An encoder-decoder starts from a single token.
  const length = tokens.length === 1 ? 1 : pieceBucket(tokens.length, maxPiece);
  return { length, read: source ? sourceBucket(source.length, model.shape) : 0 };
}

/** Rows of the largest run that `count` prompts fill sufficiently. */
function freshRows(count: number): number {
  const padded = rowBucket(count);
  return count >= LEAST_FILLED * padded ? padded : padded / 2;
}

async function readAllFresh(batch: Batch, fresh: readonly Row[]): Promise<void> {
  let waiting = fresh;
  for (let tokens = 0; waiting.length > 0 && tokens < MAX_TOKENS_BETWEEN; ) {
    tokens += await readFresh(batch, waiting);
    waiting = waiting.filter(({ filled }) => filled === 0);
  }
}

/**
 * Prefills the first pieces of prompts of similar length in one run without a cache, including the one that has waited longest.
 * -> tokens of the run
 */
async function readFresh(batch: Batch, fresh: readonly Row[]): Promise<number> {
  const { length, read } = freshLength(batch, fresh[0]!);
  const alike = fresh.filter(row => {
    const other = freshLength(batch, row);
    return other.length === length && other.read === read;
  });
  const most = Math.max(1, Math.floor(MAX_FRESH_TOKENS / Math.max(length, read)));
  const rows = freshRows(Math.min(alike.length, most));
  const source = batch.sources && { length: read, read: true };
  await run(batch, { rows, length, cache: 0, source }, alike.slice(0, rows), {});
  return rows * Math.max(length, read);
}

/** Shape of the sources for a step that reads their cached keys and values. */
const laterSources = ({ sources }: Batch): StepShape['source'] =>
  sources && { length: sources.length, read: false };

/** Views of `rows` cache rows from `start`, as inputs of a step. */
const viewCaches = (batch: Batch, start: number, rows: number): HostArrays =>
  Object.assign({}, ...cachesOf(batch).map(cache => viewRows(cache, start, rows)));

/** Prefills a later piece of one prompt. */
async function readMore(batch: Batch, row: Row): Promise<void> {
  const length = pieceBucket(row.tokens.length - row.filled, batch.maxPiece);
  const cached = viewCaches(batch, batch.rows.indexOf(row), 1);
  const source = laterSources(batch);
  await run(batch, { rows: 1, length, cache: batch.cache.length, source }, [row], cached);
}

/** Decodes one token per ready row. Cache rows are contiguous, so rows in between that are not ready run too; their output is dropped. */
async function decode(batch: Batch, ready: readonly Row[]): Promise<void> {
  const isReady = new Set(ready);
  const reached = batch.rows.slice(0, 1 + batch.rows.findLastIndex(row => isReady.has(row)));
  const rows = rowBucket(reached.length);
  const slots = reached.map(row => (isReady.has(row) ? row : null));
  const cached = viewCaches(batch, 0, rows);
  const source = laterSources(batch);
  await run(batch, { rows, length: 1, cache: batch.cache.length, source }, slots, cached);
}

type RunShape = Pick<StepShape, 'rows' | 'length' | 'cache' | 'source'>;

/** Row i of the run is `rows[i]`; null rows and those past the end are padding. */
async function run(
  batch: Batch,
  size: RunShape,
  rows: readonly (Row | null)[],
  cached: HostArrays,
): Promise<void> {
  const { model, programs } = batch;
  const shape: StepShape = { ...size, stack: batch.stack?.shape ?? null, logits: 'last' };
  const executable = await programs.get(shape);
  const inputs = { ...stepInputs(shape, rows, batch.stack), ...cached };
  const readsLogits = rows.some(row => row?.readsLogits);
  const wanted = Object.keys(executable.outputs).filter(name => readsLogits || name !== 'logits');
  const produced = await executable.run(inputs, {}, wanted);
  keep(batch, size, rows, produced);
  const { vocabSize } = model.shape;
  rows.forEach((row, index) => {
    if (!row || row.filled < row.tokens.length) return;
    const logits = produced.logits?.subarray(index * vocabSize, (index + 1) * vocabSize);
    row.take(produced.best![index]!, row.readsLogits ? (logits as Float32Array) : null);
  });
}

/** Writes the new keys and values of a run into the caches. */
function keep(
  batch: Batch,
  { length, source }: RunShape,
  rows: readonly (Row | null)[],
  produced: HostArrays,
) {
  const { shape } = batch.model;
  const placed = rows.flatMap((row, index) => (row ? [{ row, index, at: batch.rows.indexOf(row) }] : []));
  const read = placed.map(({ row, index, at }) => ({
    from: { row: index, length },
    to: { row: at, position: row.filled },
    count: Math.min(length, row.tokens.length - row.filled),
  }));
  writeTokens(batch.cache, shape, produced, read);
  if (source?.read) {
    const { length } = source;
    const sources = placed.map(({ row, index, at }) => ({
      from: { row: index, length },
      to: { row: at, position: 0 },
      count: row.source!.length,
    }));
    writeTokens(batch.sources!, shape, produced, sources);
  }
  placed.forEach(({ row }, i) => {
    row.filled += read[i]!.count;
  });
}

/** Inputs of a step besides the caches: the next `length` tokens of each row and the attention mask. */
export function stepInputs(
  shape: StepShape,
  rows: readonly (Pick<Row, 'source' | 'tokens' | 'filled' | 'adapter'> | null)[],
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
    ...(shape.source ? sourceInputs(shape.rows, shape.source, rows) : {}),
    ...(stack ? stackInputs(stack, adapters) : {}),
  };
}

/** Source tokens if they are encoded in this step, and the padding mask. Rows without a source mask nothing, since softmax needs a key. */
function sourceInputs(
  count: number,
  { length, read }: SourceShape,
  rows: readonly (Pick<Row, 'source'> | null)[],
): HostArrays {
  const sourceTokens = new Int32Array(count * length);
  const sourcePositions = new Int32Array(count * length);
  const sourceMask = new Float32Array(count * length);
  for (let index = 0; index < count; index++) {
    const source = rows[index]?.source ?? [];
    const start = index * length;
    sourceTokens.set(source, start);
    for (let i = 0; i < source.length; i++) sourcePositions[start + i] = i;
    if (source.length > 0) sourceMask.fill(HIDDEN, start + source.length, start + length);
  }
  return { sourceMask, ...(read && { sourceTokens, sourcePositions }) };
}
