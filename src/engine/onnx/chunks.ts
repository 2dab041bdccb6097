// Loops over chunks of the rows with a target, so that only a chunk's logits are in memory at a time and rows without a target cost
// nothing. The caller defines the computation per chunk.
import type { OnnxType, OnnxValue } from '../../formats/onnx.ts';
import type { Lowering } from './lowering.ts';

export interface Chunk {
  /** [chunk, width], [chunk, 1] int32 (0 where padded), [chunk, 1] bool. */
  readonly hidden: string;
  readonly target: string;
  readonly real: string;
  /** Gradients of the rows' losses [chunk, 1], 0 where padded; null: 1. */
  readonly dy: string | null;
}

export interface Rows {
  /** Indices of the rows with a target [m] int64, and their number [1] int64. */
  readonly places: string;
  readonly count: string;
  /** Rows per chunk and number of chunks, [1] int64: as few as memory allows, of equal size. */
  readonly chunk: string;
  readonly chunks: string;
  /** The rows themselves [chunks * chunk, width] and their targets [chunks * chunk], -1 where padded. */
  readonly hidden: string;
  readonly targets: string;
  /** Gradients of their losses [chunks * chunk], 0 where padded; null: 1. */
  readonly dy: string | null;
}

/** ceil(a / b) for non-negative integers. */
function divideUp(to: Lowering, a: string, b: string): string {
  const one = to.int64([1]);
  return to.emit('Div', [to.emit('Sub', [to.emit('Add', [a, b]), one]), b]);
}

export function chooseRows(
  to: Lowering,
  { hidden, targets, dy }: { hidden: string; targets: string; dy?: string },
  largestChunk: number,
): Rows {
  const one = to.int64([1]);
  const has = to.emit('GreaterOrEqual', [targets, to.scalar('int32', 0)]);
  const places = to.emit('Reshape', [to.emit('NonZero', [has]), to.int64([-1])]);
  const count = to.emit('Shape', [places]);
  const chunks = divideUp(to, count, to.int64([largestChunk]));
  const chunk = divideUp(to, count, to.emit('Max', [chunks, one]));
  const padding = to.emit('Sub', [to.emit('Mul', [chunk, chunks]), count]);
  const padded = (values: string, filler: string) =>
    to.emit('Concat', [values, to.emit('Expand', [filler, padding])], { attributes: { axis: { int: 0 } } });
  const chosen = padded(places, to.literal('int64', [1], [0]));
  return {
    places,
    count,
    chunk,
    chunks,
    hidden: to.emit('Gather', [hidden, chosen]),
    targets: padded(to.emit('Gather', [targets, places]), to.literal('int32', [1], [-1])),
    dy: dy === undefined ? null : padded(to.emit('Gather', [dy, places]), to.literal('float32', [1], [0])),
  };
}

function sliceChunk(to: Lowering, rows: Rows, iteration: string): Chunk {
  const start = to.emit('Mul', [iteration, rows.chunk]);
  const end = to.emit('Add', [start, rows.chunk]);
  const part = (values: string) => to.emit('Slice', [values, start, end, to.int64([0])]);
  const column = (values: string) => to.emit('Reshape', [part(values), to.int64([-1, 1])]);
  const targets = column(rows.targets);
  const zero = to.scalar('int32', 0);
  return {
    hidden: part(rows.hidden),
    target: to.emit('Max', [targets, zero]),
    real: to.emit('GreaterOrEqual', [targets, zero]),
    dy: rows.dy === null ? null : column(rows.dy),
  };
}

/** A loop-carried value. */
export interface Carried {
  readonly type: OnnxType;
  readonly shape: readonly number[];
  /** Names of the value before the first chunk, and after the last. */
  readonly first: string;
  readonly result: string;
}

/** Stacks float32 [chunk, width] of every chunk to [chunks, chunk, width]. */
export interface Collected {
  readonly width: number;
  readonly result: string;
}

/** Loop body: names of the carried values before a chunk -> their names after it, then those of the collected values. */
type Step = (body: Lowering, chunk: Chunk, before: readonly string[]) => readonly string[];

export function overChunks(
  to: Lowering,
  rows: Rows,
  { carried = [], collected = [] }: { carried?: readonly Carried[]; collected?: readonly Collected[] },
  step: Step,
): void {
  const body = to.child();
  const iteration: OnnxValue = { name: body.fresh('i'), type: 'int64', shape: [] };
  const going: OnnxValue = { name: body.fresh('going'), type: 'bool', shape: [] };
  const before = carried.map(({ type, shape }): OnnxValue => ({ name: body.fresh('before'), type, shape }));
  const names = step(
    body,
    sliceChunk(body, rows, iteration.name),
    before.map(({ name }) => name),
  );
  const parts = collected.map(
    ({ width }): OnnxValue => ({ name: '', type: 'float32', shape: [body.fresh('rows'), width] }),
  );
  const after = [...before, ...parts].map((value, i): OnnxValue => ({ ...value, name: names[i]! }));
  const stillGoing = { ...going, name: body.emit('Identity', [going.name]) };
  const trips = to.emit('Reshape', [rows.chunks, to.literal('int64', [0], [])]);
  to.emit('Loop', [trips, to.scalar('bool', 1), ...carried.map(({ first }) => first)], {
    attributes: {
      body: { graph: body.graph('chunk', [iteration, going, ...before], [stillGoing, ...after]) },
    },
    outputs: [...carried, ...collected].map(({ result }) => result),
  });
}

/** Scatters a collected value to the rows' places in an array of this shape; zeros elsewhere. */
export function placeRows(
  to: Lowering,
  rows: Rows,
  chunks: string,
  shape: readonly number[],
  y: string,
): void {
  const flat = to.emit('Reshape', [chunks, to.int64([-1, ...shape.slice(1)])]);
  const real = to.emit('Slice', [flat, to.int64([0]), rows.count, to.int64([0])]);
  const zeros = to.emit('Expand', [to.scalar('float32', 0), to.int64(shape)]);
  const places = to.emit('Reshape', [rows.places, to.int64([-1, 1])]);
  to.emit('ScatterND', [zeros, places, real], { outputs: [y] });
}
