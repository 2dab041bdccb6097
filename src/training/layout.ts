// The layout of a run: the few micro-batch shapes its programs are compiled for, and how a batch is cut into them. It
// works on lengths only. Results depend on the layout only by rounding, so it is kept with the run.
import { planRows } from '../data/pack.ts';
import type { MicroBatchShape } from './programs.ts';

export interface Layout {
  readonly shapes: readonly MicroBatchShape[];
  readonly engine: string;
  readonly device: string;
  readonly threads: number;
}

/** One micro-batch: its shape, and for each row the indices of the batch's examples in it. Missing rows are padding. */
export interface MicroBatchPlan {
  readonly shape: MicroBatchShape;
  readonly rows: readonly (readonly number[])[];
}

/** What the cost of a token depends on besides the model's size. */
export interface CostModel {
  readonly hiddenSize: number;
}

const ROWS = [1, 2, 3, 4, 6, 8, 12, 16];
/** Lengths are multiples of this, the width of AVX2 vectors in float32. */
const STEP = 8;
const MOST_SHAPES = 3;
/** Another shape must cut the cost to this fraction to be worth compiling. */
const WORTHWHILE = 0.93;
/** Fixed cost of a program run, in tokens. */
const RUN_OVERHEAD_TOKENS = 16;

const roundUp = (length: number) => Math.ceil(length / STEP) * STEP;

/** Candidate row lengths up to `longest`: four per doubling, in steps of 8. */
export function lengthBuckets(longest: number): number[] {
  const buckets = [];
  for (let power = 32; power / 2 < longest; power *= 2)
    for (const quarter of [0.5, 0.625, 0.75, 0.875]) buckets.push(roundUp(power * quarter));
  return [...new Set(buckets)].filter(length => length <= longest);
}

/** Row length for the longest example, at most the model's positions. */
export const rowLengthFor = (longest: number, maxPositions: number): number =>
  Math.min(roundUp(longest), Math.max(longest, maxPositions));

/** Attention adds length / (6 width) to the cost of a token's matrix products, given 12 width^2 weights per layer. */
const costOf = ({ rows, length }: MicroBatchShape, { hiddenSize }: CostModel) =>
  rows * length * (1 + length / (6 * hiddenSize)) + RUN_OVERHEAD_TOKENS;

/** Splits rows into micro-batches of one length: the largest that are filled, then the smallest that holds the rest. */
function splitRows(count: number, available: readonly number[]): number[] {
  const parts: number[] = [];
  for (let left = count; left > 0; left -= parts.at(-1)!) {
    const filled = available.filter(rows => rows <= left);
    parts.push(filled.length > 0 ? Math.max(...filled) : Math.min(...available));
  }
  return parts;
}

function planWithLength(
  lengths: readonly number[],
  length: number,
  shapes: readonly MicroBatchShape[],
): MicroBatchPlan[] {
  const available = shapes.filter(shape => shape.length === length).map(({ rows }) => rows);
  const filled = planRows(lengths, length);
  let next = 0;
  return splitRows(filled.length, available).map(rows => {
    const plan = { shape: { rows, length }, rows: filled.slice(next, next + rows) };
    next += rows;
    return plan;
  });
}

const totalCost = (plans: readonly MicroBatchPlan[], model: CostModel) =>
  plans.reduce((total, { shape }) => total + costOf(shape, model), 0);

/** Cuts a batch, given by its examples' lengths, into micro-batches of the cheapest row length. */
export function planBatch(
  lengths: readonly number[],
  shapes: readonly MicroBatchShape[],
  model: CostModel,
): MicroBatchPlan[] {
  const longest = Math.max(...lengths);
  const usable = [...new Set(shapes.map(({ length }) => length))].filter(length => length >= longest);
  if (usable.length === 0) throw new Error(`no shape holds ${longest} tokens`);
  const plans = usable.map(length => planWithLength(lengths, length, shapes));
  return plans.reduce((best, plan) => (totalCost(plan, model) < totalCost(best, model) ? plan : best));
}

export interface ShapeOptions {
  /** Example lengths of a sample of the run's batches. */
  readonly batches: readonly (readonly number[])[];
  /** The longest example of the run. */
  readonly longest: number;
  readonly maxPositions: number;
  /** Most tokens of a micro-batch; a single row of the longest example is always allowed. */
  readonly maxTokens: number;
}

/** All candidate shapes, including those that hold the longest example. */
function candidates({ batches, longest, maxPositions, maxTokens }: ShapeOptions): MicroBatchShape[] {
  const needed = rowLengthFor(longest, maxPositions);
  const whole = Math.max(...batches.map(lengths => lengths.reduce((sum, length) => sum + length, 0)));
  const top = Math.max(needed, Math.min(roundUp(whole), maxTokens, maxPositions));
  const lengths = [...new Set([...lengthBuckets(top), needed])];
  return lengths.flatMap(length =>
    ROWS.filter(rows => rows * length <= maxTokens || (rows === 1 && length === needed)).map(rows => ({
      rows,
      length,
    })),
  );
}

/** At most three shapes: the best one that holds everything, then those that save most. Deterministic. */
export function chooseShapes(options: ShapeOptions, model: CostModel): MicroBatchShape[] {
  const all = candidates(options);
  const cost = (shapes: readonly MicroBatchShape[]) =>
    options.batches.reduce(
      (total, lengths) => total + totalCost(planBatch(lengths, shapes, model), model),
      0,
    );
  const bestOf = (choices: readonly MicroBatchShape[][]) =>
    choices
      .map(shapes => ({ shapes, cost: cost(shapes) }))
      .reduce((best, one) => (one.cost < best.cost ? one : best));
  const holding = all.filter(({ length }) => length >= options.longest);
  let best = bestOf(holding.map(shape => [shape]));
  while (best.shapes.length < MOST_SHAPES) {
    const next = bestOf(all.map(shape => [...best.shapes, shape]));
    if (next.cost > best.cost * WORTHWHILE) break;
    best = next;
  }
  return best.shapes;
}

/** The layout as the protocol and the database store it. */
export const layoutToRecord = ({ shapes, engine, device, threads }: Layout) => ({
  engine,
  device,
  threads,
  micro_batch_rows: shapes.map(({ rows }) => rows),
  row_lengths: shapes.map(({ length }) => length),
});

export function layoutFromRecord(record: Readonly<Record<string, unknown>>): Layout {
  const rows = record.micro_batch_rows as number[];
  const lengths = record.row_lengths as number[];
  return {
    shapes: rows.map((count, i) => ({ rows: count, length: lengths[i]! })),
    engine: String(record.engine),
    device: String(record.device),
    threads: Number(record.threads),
  };
}
