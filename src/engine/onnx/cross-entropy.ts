// The cross-entropy of an output layer in ONNX: a loop over chunks of the rows that have a target, so that the scores of a
// few rows exist at a time and rows without a target cost nothing. Loss and gradients come from the same scores.
import type { OnnxValue } from '../../formats/onnx.ts';
import { crossEntropyChunk } from '../compositions.ts';
import type { Lowering } from './lowering.ts';
import { multiply, multiplyAdd, prepareFactor } from './products.ts';
import { addRows } from './row-sums.ts';
import type { Rule } from './rules.ts';

interface Chunk {
  /** [chunk, width], [chunk, 1] int32 (0 where padded), [chunk, 1] bool. */
  readonly hidden: string;
  readonly target: string;
  readonly real: string;
  /** What the gradients of the rows' losses are [chunk, 1], 0 where padded; null: 1. */
  readonly dy: string | null;
}

export interface Rows {
  /** Places of the rows that have a target [m] int64, and how many there are [1] int64. */
  readonly places: string;
  readonly count: string;
  /** Rows of a chunk and chunks, [1] int64: as few chunks as memory allows, all of one size. */
  readonly chunk: string;
  readonly chunks: string;
  /** The rows themselves [chunks * chunk, width] and their targets [chunks * chunk], -1 where padded. */
  readonly hidden: string;
  readonly targets: string;
  /** Gradients of their losses [chunks * chunk], 0 where padded; null: 1. */
  readonly dy: string | null;
}

/** ceil(a / b) of whole numbers from 0 on. */
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

export function sliceChunk(to: Lowering, rows: Rows, iteration: string): Chunk {
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

const pick = (to: Lowering, values: string, index: string) =>
  to.emit('GatherElements', [values, index], { attributes: { axis: { int: 1 } } });

/** [rows, n] -> [rows, 1] */
const largest = (to: Lowering, values: string) =>
  to.emit('ReduceMax', [values, to.int64([1])], { attributes: { keepdims: { int: 1 } } });

const total = (to: Lowering, values: string) =>
  to.emit('ReduceSum', [values], { attributes: { keepdims: { int: 0 } } });

interface Scores {
  /** [chunk, 1], of padding too. */
  readonly losses: string;
  /** Where no token is more probable than the target [chunk, 1] bool. */
  readonly hit: string;
  /** d loss / d products of hidden and weight [chunk, vocab]; without a cap the targets' own part, -1, is left to be subtracted. */
  readonly spread: string;
}

/** Scores within (-cap, cap), and their slope: 1 - (score / cap)^2. */
function capScores(to: Lowering, products: string, cap: number) {
  const scaled = to.emit('Mul', [products, to.scalar('float32', 1 / cap)]);
  const bent = to.emit('Tanh', [scaled]);
  return {
    logits: to.emit('Mul', [bent, to.scalar('float32', cap)]),
    slope: to.emit('Sub', [to.scalar('float32', 1), to.emit('Mul', [bent, bent])]),
  };
}

export interface OutputLayer {
  /** [vocab, width] */
  readonly weight: string;
  /** [vocab] */
  readonly bias: string | undefined;
  readonly cap: number | null;
}

export function score(
  to: Lowering,
  { hidden, target, real }: Chunk,
  { weight, bias, cap }: OutputLayer,
): Scores {
  const plain =
    to.scoring(weight)?.(to, hidden) ?? multiply(to, [hidden, weight], { ranks: [2, 2], transposeB: true });
  const products = bias === undefined ? plain : to.emit('Add', [plain, bias]);
  const { logits, slope } = cap === null ? { logits: products, slope: null } : capScores(to, products, cap);
  const best = largest(to, logits);
  const probabilities = to.emit('Softmax', [logits], { attributes: { axis: { int: 1 } } });
  // log(sum(exp)) from the most probable token, whose probability is far from underflow.
  const normalizer = to.emit('Sub', [best, to.emit('Log', [largest(to, probabilities)])]);
  const own = pick(to, logits, target);
  return {
    losses: to.emit('Sub', [normalizer, own]),
    // ArgMax would take five times as long.
    hit: to.emit('And', [real, to.emit('GreaterOrEqual', [own, best])]),
    spread: slope ? bendSpread(to, probabilities, target, slope) : probabilities,
  };
}

/** (probabilities, less 1 at the target) * slope */
function bendSpread(to: Lowering, probabilities: string, target: string, slope: string): string {
  const own = to.emit('Sub', [pick(to, probabilities, target), to.scalar('float32', 1)]);
  const less = to.emit('ScatterElements', [probabilities, target, own], { attributes: { axis: { int: 1 } } });
  return to.emit('Mul', [less, slope]);
}

/** d loss / d hidden of a chunk: the mean of all tokens' weights less the target's. */
export function hiddenGradient(
  to: Lowering,
  chunk: Chunk,
  weight: string,
  spread: string,
  capped: boolean,
): string {
  const mean = multiply(to, [spread, weight], { ranks: [2, 2] });
  const own = () => to.emit('Gather', [weight, to.emit('Reshape', [chunk.target, to.int64([-1])])]);
  return to.emit('Mul', [capped ? mean : to.emit('Sub', [mean, own()]), slopes(to, chunk)]);
}

/** d sum / d loss of a chunk's rows [chunk, 1]. */
const slopes = (to: Lowering, { dy, real }: Chunk): string => dy ?? to.cast(real, 'float32');

/** d loss / d weight, added up over the chunks; without a cap the targets' part is subtracted after the loop. */
export function weightGradient(to: Lowering, chunk: Chunk, spread: string, before: string): string {
  const rows = to.emit('Mul', [chunk.hidden, slopes(to, chunk)]);
  return multiplyAdd(to, [spread, rows], before, { ranks: [2, 2], transposeA: true });
}

const scalar = (name: string, type: OnnxValue['type']): OnnxValue => ({ name, type, shape: [] });

export const crossEntropy: Rule = (to, { inputs, attributes }, [hidden, weight, targets, bias], y) => {
  const [rowCount, width] = inputs[0]!.shape as [number, number];
  const vocab = inputs[1]!.shape[0]!;
  const cap = (attributes.softcap as number) || null;
  const forHidden = attributes.gradients === 'hidden' || attributes.gradients === 'both';
  const forWeight = attributes.gradients === 'weight' || attributes.gradients === 'both';
  const [lossSum, correct, count, ...gradientNames] = y as [string, string, string, ...string[]];
  const rows = chooseRows(to, { hidden: hidden!, targets: targets! }, crossEntropyChunk(rowCount, vocab));
  to.cast(to.emit('Reshape', [rows.count, to.literal('int64', [0], [])]), 'int32', [count]);

  prepareFactor(to, weight!);
  const body = to.child();
  const iteration = scalar(body.fresh('i'), 'int64');
  const going = scalar(body.fresh('going'), 'bool');
  const lossBefore = scalar(body.fresh('loss'), 'float32');
  const correctBefore = scalar(body.fresh('correct'), 'int32');
  const weightBefore: OnnxValue = { name: body.fresh('dw'), type: 'float32', shape: [vocab, width] };
  const chunk = sliceChunk(body, rows, iteration.name);
  const scores = score(body, chunk, { weight: weight!, bias, cap });
  const loss = total(body, body.emit('Where', [chunk.real, scores.losses, body.scalar('float32', 0)]));
  const carriedOut: OnnxValue[] = [
    scalar(body.emit('Identity', [going.name]), 'bool'),
    scalar(body.emit('Add', [lossBefore.name, loss]), 'float32'),
    scalar(body.emit('Add', [correctBefore.name, total(body, body.cast(scores.hit, 'int32'))]), 'int32'),
  ];
  const carriedIn = [iteration, going, lossBefore, correctBefore];
  const firstValues = [to.scalar('float32', 0), to.scalar('int32', 0)];
  const results = [lossSum, correct];
  const weightSum = cap === null || !forWeight ? to.fresh('dw') : gradientNames.at(-1)!;
  if (forWeight) {
    const name = weightGradient(body, chunk, scores.spread, weightBefore.name);
    carriedOut.push({ ...weightBefore, name });
    carriedIn.push(weightBefore);
    firstValues.push(to.emit('Expand', [to.scalar('float32', 0), to.int64([vocab, width])]));
    results.push(weightSum);
  }
  const hiddenChunks = to.fresh('dh');
  if (forHidden) {
    const name = hiddenGradient(body, chunk, weight!, scores.spread, cap !== null);
    carriedOut.push({ name, type: 'float32', shape: [body.fresh('rows'), width] });
    results.push(hiddenChunks);
  }
  const trips = to.emit('Reshape', [rows.chunks, to.literal('int64', [0], [])]);
  to.emit('Loop', [trips, to.scalar('bool', 1), ...firstValues], {
    attributes: { body: { graph: body.graph('chunk', carriedIn, carriedOut) } },
    outputs: results,
  });
  if (forHidden) placeRows(to, rows, hiddenChunks, [rowCount, width], gradientNames.shift()!);
  if (forWeight && cap === null) subtractTargets(to, rows, weightSum, width, gradientNames.shift()!);
};

/** What the rows that have a target have, in chunks, to their places in an array of this shape; zeros elsewhere. */
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

export function subtractTargets(to: Lowering, rows: Rows, sum: string, width: number, y: string): void {
  const real = (values: string) => to.emit('Slice', [values, to.int64([0]), rows.count, to.int64([0])]);
  const slope = () => to.emit('Reshape', [real(rows.dy!), to.int64([-1, 1])]);
  const hidden = rows.dy === null ? real(rows.hidden) : to.emit('Mul', [real(rows.hidden), slope()]);
  const column = to.emit('Reshape', [real(rows.targets), to.int64([-1, 1])]);
  const shape = to.emit('Concat', [rows.count, to.int64([width])], { attributes: { axis: { int: 0 } } });
  const negated = to.emit('Neg', [hidden]);
  addRows(to, { matrix: sum, places: column, rows: negated, shape, dtype: 'float32' }, [y]);
}
