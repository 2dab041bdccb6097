// Anneal's own ops made of plain TensorFlow.js ops, for backends that have no kernels for them. What they compute is said in ops.ts;
// they read host memory and free what they made, so they are never traced.
import type { Tensor } from '@tensorflow/tfjs';
import type { Attributes, OpName } from './kernels.ts';
import type { Tensors } from './program.ts';
import { softcap, softcapSlope } from './softcap.ts';
import { tf } from './tf.ts';

export type OwnOp = Extract<
  OpName,
  | 'LayerNorm'
  | 'LayerNormGrad'
  | 'RmsNorm'
  | 'RmsNormGrad'
  | 'Gelu'
  | 'GeluGrad'
  | 'Silu'
  | 'SiluGrad'
  | 'Rotary'
  | 'CrossEntropy'
>;

const CUBIC = 0.044715;
const SLOPE = 2 * Math.sqrt(2 / Math.PI);

const geluGate = (x: Tensor): Tensor => {
  const slope = x.square().mul(SLOPE * CUBIC);
  return x.mul(slope.add(SLOPE)).sigmoid();
};

/** Numbers of [rows, vocab] that are held at once. */
const CHUNK_NUMBERS = 1 << 23;

/** Rows whose scores over the vocabulary are held at once. */
export const crossEntropyChunk = (rows: number, vocab: number): number =>
  Math.min(rows, Math.max(32, Math.floor(CHUNK_NUMBERS / vocab)));

interface TargetRows {
  /** Places of a chunk's rows, their targets, their hidden states. */
  readonly places: Tensor;
  readonly targets: Tensor;
  readonly hidden: Tensor;
}

/** The rows that have a target, in chunks. */
function* targetRows(hidden: Tensor, targets: Tensor, vocab: number): Generator<TargetRows> {
  const all = targets.dataSync();
  const places = Array.from(all.keys()).filter(row => all[row]! >= 0);
  const chunk = crossEntropyChunk(hidden.shape[0]!, vocab);
  for (let at = 0; at < places.length; at += chunk) {
    const part = places.slice(at, at + chunk);
    const chosen = part.map(row => all[row]!);
    const index = tf.tensor1d(part, 'int32');
    yield { places: index, targets: tf.tensor1d(chosen, 'int32'), hidden: tf.gather(hidden, index) };
  }
}

interface CrossEntropyKind {
  /** none, hidden, weight or both. */
  readonly gradients: string;
  readonly cap: number | null;
  /** [vocab] */
  readonly bias: Tensor | null;
}

/** A chunk's part of lossSum and correct, and of the gradients that are asked for. */
function crossEntropyTerms(
  rows: TargetRows,
  weight: Tensor,
  hiddenRows: number,
  { gradients, cap, bias }: CrossEntropyKind,
): Tensor[] {
  const { places, targets, hidden } = rows;
  const products: Tensor = tf.matMul(hidden as never, weight as never, false, true);
  const logits = softcap(bias ? products.add(bias) : products, cap);
  const ownLogits = tf.gather(logits, targets, 1, 1); // [rows]
  const terms = [
    tf.logSumExp(logits, -1).sub(ownLogits).sum(),
    ownLogits.greaterEqual(logits.max(-1)).toInt().sum(),
  ];
  if (gradients === 'none') return terms;
  const slope = cap === null ? tf.onesLike(logits) : softcapSlope(logits, cap);
  const spread = tf.softmax(logits).mul(slope);
  const own = tf.gather(slope, targets, 1, 1).expandDims(1); // [rows, 1]
  if (gradients !== 'weight') {
    const mean: Tensor = tf.matMul(spread as never, weight as never);
    const gradient = mean.sub(tf.gather(weight, targets).mul(own));
    terms.push(tf.unsortedSegmentSum(gradient, places as never, hiddenRows));
  }
  if (gradients !== 'hidden') {
    const sum: Tensor = tf.matMul(spread as never, hidden as never, true);
    terms.push(sum.sub(tf.unsortedSegmentSum(hidden.mul(own), targets as never, weight.shape[0]!)));
  }
  return terms;
}

function crossEntropy(hidden: Tensor, weight: Tensor, targets: Tensor, kind: CrossEntropyKind): Tensor[] {
  const { gradients } = kind;
  let sums: Tensor[] = [tf.scalar(0), tf.scalar(0, 'int32')];
  if (gradients === 'hidden' || gradients === 'both') sums.push(tf.zerosLike(hidden));
  if (gradients === 'weight' || gradients === 'both') sums.push(tf.zerosLike(weight));
  for (const rows of targetRows(hidden, targets, weight.shape[0]!)) {
    const before = sums;
    sums = tf.tidy(() =>
      crossEntropyTerms(rows, weight, hidden.shape[0]!, kind).map((term, i) => before[i]!.add(term)),
    );
    tf.dispose([before, rows] as never);
  }
  const count = targets.greaterEqual(0).toInt().sum();
  return [sums[0]!, sums[1]!, count, ...sums.slice(2)];
}

export const COMPOSITIONS: Record<OwnOp, (inputs: Tensors, attributes: Attributes) => Tensor[]> = {
  RmsNorm({ x, weight }, { eps }) {
    const scale = x!
      .square()
      .mean(-1, true)
      .add(eps as number)
      .rsqrt();
    return [x!.mul(scale).mul(weight!), scale];
  },
  RmsNormGrad({ dy, x, weight, scale }) {
    const g = dy!.mul(weight!);
    const slope = g.mul(x!).mean(-1, true).mul(scale!.square());
    return [g.sub(x!.mul(slope)).mul(scale!)];
  },
  LayerNorm({ x, weight, bias }, { eps }) {
    const mean = x!.mean(-1, true);
    const centred = x!.sub(mean);
    const scale = centred
      .square()
      .mean(-1, true)
      .add(eps as number)
      .rsqrt();
    return [centred.mul(scale).mul(weight!).add(bias!), mean, scale];
  },
  LayerNormGrad({ dy, x, weight, mean, scale }) {
    const centred = x!.sub(mean!);
    const g = dy!.mul(weight!);
    const slope = g.mul(centred).mean(-1, true).mul(scale!.square());
    return [g.sub(g.mean(-1, true)).sub(centred.mul(slope)).mul(scale!)];
  },
  Gelu: ({ x }) => [x!.mul(geluGate(x!))],
  GeluGrad({ dy, x }) {
    const s = geluGate(x!);
    const slope = x!.square().mul(3 * SLOPE * CUBIC);
    const inner = x!.mul(slope.add(SLOPE));
    return [dy!.mul(s.add(s.sub(s.square()).mul(inner)))];
  },
  Silu: ({ x }) => [x!.mul(x!.sigmoid())],
  SiluGrad({ dy, x }) {
    const s = x!.sigmoid();
    const y = x!.mul(s);
    return [dy!.mul(s.add(y).sub(y.mul(s)))];
  },
  Rotary({ x, cos, sin }) {
    const [first, second] = tf.split(x!, 2, 3) as [Tensor, Tensor];
    const c = cos!.expandDims(1);
    const s = sin!.expandDims(1);
    return [tf.concat([first.mul(c).sub(second.mul(s)), second.mul(c).add(first.mul(s))], 3)];
  },
  CrossEntropy: ({ hidden, weight, targets, bias }, { gradients, softcap }) =>
    crossEntropy(hidden!, weight!, targets!, {
      gradients: gradients as string,
      cap: (softcap as number) || null,
      bias: bias ?? null,
    }),
};
