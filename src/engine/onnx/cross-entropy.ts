// The cross-entropy of an output layer in ONNX, chunk by chunk (chunks.ts). Loss and gradients come from the same logits.
import { crossEntropyChunk } from '../compositions.ts';
import type { Node } from '../graph.ts';
import { type Carried, type Chunk, chooseRows, overChunks, placeRows, type Rows } from './chunks.ts';
import type { Lowering } from './lowering.ts';
import { multiply, multiplyAdd, prepareFactor } from './products.ts';
import { addRows } from './row-sums.ts';
import type { Rule } from './rules.ts';

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

/** Logits within (-cap, cap), and their slope: 1 - (logit / cap)^2. */
function capLogits(to: Lowering, products: string, cap: number) {
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

export const outputLayerOf = (
  { attributes }: Node,
  weight: string,
  bias: string | undefined,
): OutputLayer => ({
  weight,
  bias,
  cap: (attributes.softcap as number) || null,
});

export function score(
  to: Lowering,
  { hidden, target, real }: Chunk,
  { weight, bias, cap }: OutputLayer,
): Scores {
  const plain =
    to.scoring(weight)?.(to, hidden) ?? multiply(to, [hidden, weight], { ranks: [2, 2], transposeB: true });
  const products = bias === undefined ? plain : to.emit('Add', [plain, bias]);
  const { logits, slope } = cap === null ? { logits: products, slope: null } : capLogits(to, products, cap);
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

/** d loss / d hidden of a chunk: the mean of the weight's rows by probability, less the target's row. */
export function hiddenGradient(
  to: Lowering,
  chunk: Chunk,
  { weight, cap }: OutputLayer,
  spread: string,
): string {
  const mean = multiply(to, [spread, weight], { ranks: [2, 2] });
  const own = () => to.emit('Gather', [weight, to.emit('Reshape', [chunk.target, to.int64([-1])])]);
  return to.emit('Mul', [cap === null ? to.emit('Sub', [mean, own()]) : mean, slopes(to, chunk)]);
}

/** d sum / d loss of a chunk's rows [chunk, 1]. */
const slopes = (to: Lowering, { dy, real }: Chunk): string => dy ?? to.cast(real, 'float32');

/** d loss / d weight, added up over the chunks; without a cap the targets' part is subtracted after the loop. */
export function weightGradient(to: Lowering, chunk: Chunk, spread: string, before: string): string {
  const rows = to.emit('Mul', [chunk.hidden, slopes(to, chunk)]);
  return multiplyAdd(to, [spread, rows], before, { ranks: [2, 2], transposeA: true });
}

/** The sum of `weightGradient`, [vocab, width] and zero before the first chunk. */
export const weightSum = (to: Lowering, shape: readonly number[], result: string): Carried => ({
  type: 'float32',
  shape,
  first: to.emit('Expand', [to.scalar('float32', 0), to.int64(shape)]),
  result,
});

const scalarSum = (to: Lowering, type: 'float32' | 'int32', result: string): Carried => ({
  type,
  shape: [],
  first: to.scalar(type, 0),
  result,
});

/** The names that the node's gradients are to have, in the order of its outputs. */
function gradientNames({ attributes: { gradients } }: Node, names: readonly string[]) {
  const rest = [...names];
  return {
    hidden: gradients === 'hidden' || gradients === 'both' ? rest.shift() : undefined,
    weight: gradients === 'weight' || gradients === 'both' ? rest.shift() : undefined,
  };
}

export const crossEntropy: Rule = (to, node, [hidden, weight, targets, bias], y) => {
  const [rowCount, width] = node.inputs[0]!.shape as [number, number];
  const [vocab] = node.inputs[1]!.shape as [number];
  const [lossSum, correct, count, ...names] = y as [string, string, string, ...string[]];
  const wanted = gradientNames(node, names);
  const layer = outputLayerOf(node, weight!, bias);
  const rows = chooseRows(to, { hidden: hidden!, targets: targets! }, crossEntropyChunk(rowCount, vocab));
  to.cast(to.emit('Reshape', [rows.count, to.literal('int64', [0], [])]), 'int32', [count]);

  prepareFactor(to, layer.weight);
  const [hiddenChunks, uncappedSum] = [to.fresh('dh'), to.fresh('dw')];
  const sums = [scalarSum(to, 'float32', lossSum), scalarSum(to, 'int32', correct)];
  const capped = layer.cap !== null;
  if (wanted.weight) sums.push(weightSum(to, [vocab, width], capped ? wanted.weight : uncappedSum));
  const collected = wanted.hidden ? [{ width, result: hiddenChunks }] : [];
  overChunks(to, rows, { carried: sums, collected }, (body, chunk, [loss, hits, before]) => {
    const { losses, hit, spread } = score(body, chunk, layer);
    const real = body.emit('Where', [chunk.real, losses, body.scalar('float32', 0)]);
    return [
      body.emit('Add', [loss!, total(body, real)]),
      body.emit('Add', [hits!, total(body, body.cast(hit, 'int32'))]),
      ...(wanted.weight ? [weightGradient(body, chunk, spread, before!)] : []),
      ...(wanted.hidden ? [hiddenGradient(body, chunk, layer, spread)] : []),
    ];
  });
  if (wanted.hidden) placeRows(to, rows, hiddenChunks, [rowCount, width], wanted.hidden);
  if (wanted.weight && !capped) subtractTargets(to, rows, uncappedSum, width, wanted.weight);
};

/** y = sum less every real row at its target: the targets' part of the gradient of the weight. */
export function subtractTargets(to: Lowering, rows: Rows, sum: string, width: number, y: string): void {
  const real = (values: string) => to.emit('Slice', [values, to.int64([0]), rows.count, to.int64([0])]);
  const slope = () => to.emit('Reshape', [real(rows.dy!), to.int64([-1, 1])]);
  const hidden = rows.dy === null ? real(rows.hidden) : to.emit('Mul', [real(rows.hidden), slope()]);
  const column = to.emit('Reshape', [real(rows.targets), to.int64([-1, 1])]);
  const shape = to.emit('Concat', [rows.count, to.int64([width])], { attributes: { axis: { int: 0 } } });
  const negated = to.emit('Neg', [hidden]);
  addRows(to, { matrix: sum, places: column, rows: negated, shape, dtype: 'float32' }, [y]);
}
