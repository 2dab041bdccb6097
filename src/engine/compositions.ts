// Anneal's own ops (ops.ts) composed of plain TensorFlow.js ops, for backends without kernels for them. Most read
// tensor data or dispose intermediates and cannot be traced; those of attention can, and become the body of a loop
// (onnx/attention.ts).
import type { Tensor } from '@tensorflow/tfjs';
import { type AttentionKind, attend, attentionGradients, unlisted } from './attention-blocks.ts';
import type { Attributes, OpName } from './kernels.ts';
import type { GeluForm } from './ops.ts';
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
  | 'Attention'
  | 'AttentionGrad'
  | 'GroupProduct'
  | 'GroupProductGrad'
  | 'CrossEntropy'
  | 'TokenLosses'
  | 'TokenLossesGrad'
>;

const CUBIC = 0.044715;
const SLOPE = 2 * Math.sqrt(2 / Math.PI);

/** GELU(x) = x * gate(x), and its derivative. */
const GELUS: Record<GeluForm, { gate(x: Tensor): Tensor; slope(x: Tensor): Tensor }> = {
  none: {
    gate: x => x.mul(Math.SQRT1_2).erf().add(1).mul(0.5),
    slope(x) {
      const density = x
        .square()
        .mul(-0.5)
        .exp()
        .mul(Math.sqrt(0.5 / Math.PI));
      return this.gate(x).add(x.mul(density));
    },
  },
  tanh: {
    gate: x =>
      x
        .mul(
          x
            .square()
            .mul(SLOPE * CUBIC)
            .add(SLOPE),
        )
        .sigmoid(),
    slope(x) {
      const s = this.gate(x);
      const inner = x.mul(
        x
          .square()
          .mul(3 * SLOPE * CUBIC)
          .add(SLOPE),
      );
      return s.add(s.sub(s.square()).mul(inner));
    },
  },
};

/** Elements of the logits [rows, vocab] that are held at once: 32 MB. */
const CHUNK_NUMBERS = 1 << 23;

/** How many rows of logits are held at once. */
export const crossEntropyChunk = (rows: number, vocab: number): number =>
  Math.min(rows, Math.max(32, Math.floor(CHUNK_NUMBERS / vocab)));

interface TargetRows {
  /** Indices of a chunk's rows, their targets, their hidden states. */
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

interface OutputLayer {
  /** [vocab, width] */
  readonly weight: Tensor;
  readonly cap: number | null;
  /** [vocab] */
  readonly bias: Tensor | null;
}

interface CrossEntropyKind extends OutputLayer {
  /** none, hidden, weight or both. */
  readonly gradients: string;
}

/** Logits of a chunk's rows [rows, vocab], those of their targets [rows], and their losses [rows]. */
function scoresOf({ targets, hidden }: TargetRows, { weight, cap, bias }: OutputLayer) {
  const products: Tensor = tf.matMul(hidden as never, weight as never, false, true);
  const logits = softcap(bias ? products.add(bias) : products, cap);
  const own: Tensor = tf.gather(logits, targets, 1, 1);
  return { logits, own, losses: tf.logSumExp(logits, -1).sub(own) };
}

/**
 * Gradients of a chunk's losses with respect to its hidden states and the weight; dy [rows, 1] are the losses' own
 * gradients, null: 1.
 */
function gradientsOf(
  { targets, hidden }: TargetRows,
  logits: Tensor,
  { weight, cap }: OutputLayer,
  dy: Tensor | null,
) {
  const slope = cap === null ? tf.onesLike(logits) : softcapSlope(logits, cap);
  const spread = tf.softmax(logits).mul(slope);
  const own = tf.gather(slope, targets, 1, 1).expandDims(1); // [rows, 1]
  const weighed = dy ? hidden.mul(dy) : hidden;
  return {
    /** [rows, width] */
    hidden(): Tensor {
      const mean: Tensor = tf.matMul(spread as never, weight as never);
      const gradient = mean.sub(tf.gather(weight, targets).mul(own));
      return dy ? gradient.mul(dy) : gradient;
    },
    /** [vocab, width] */
    weight(): Tensor {
      const sum: Tensor = tf.matMul(spread as never, weighed as never, true);
      return sum.sub(tf.unsortedSegmentSum(weighed.mul(own), targets as never, weight.shape[0]!));
    },
  };
}

/** A chunk's part of lossSum and correct, and of the gradients that are asked for. */
function crossEntropyTerms(rows: TargetRows, hiddenRows: number, kind: CrossEntropyKind): Tensor[] {
  const { logits, own, losses } = scoresOf(rows, kind);
  const terms = [losses.sum(), own.greaterEqual(logits.max(-1)).toInt().sum()];
  if (kind.gradients === 'none') return terms;
  const gradients = gradientsOf(rows, logits, kind, null);
  if (kind.gradients !== 'weight')
    terms.push(tf.unsortedSegmentSum(gradients.hidden(), rows.places as never, hiddenRows));
  if (kind.gradients !== 'hidden') terms.push(gradients.weight());
  return terms;
}

/** Sums the terms of all chunks, starting from `first`. */
function sumChunks(
  hidden: Tensor,
  targets: Tensor,
  vocab: number,
  first: Tensor[],
  terms: (rows: TargetRows) => Tensor[],
): Tensor[] {
  let sums = first;
  for (const rows of targetRows(hidden, targets, vocab)) {
    const before = sums;
    sums = tf.tidy(() => terms(rows).map((term, i) => before[i]!.add(term)));
    tf.dispose([before, rows] as never);
  }
  return sums;
}

function crossEntropy(hidden: Tensor, targets: Tensor, kind: CrossEntropyKind): Tensor[] {
  const { gradients, weight } = kind;
  const first: Tensor[] = [tf.scalar(0), tf.scalar(0, 'int32')];
  if (gradients === 'hidden' || gradients === 'both') first.push(tf.zerosLike(hidden));
  if (gradients === 'weight' || gradients === 'both') first.push(tf.zerosLike(weight));
  const terms = (rows: TargetRows) => crossEntropyTerms(rows, hidden.shape[0]!, kind);
  const [lossSum, correct, ...rest] = sumChunks(hidden, targets, weight.shape[0]!, first, terms);
  const count = targets.greaterEqual(0).toInt().sum();
  return [lossSum!, correct!, count, ...rest];
}

/** [n] */
function tokenLosses(hidden: Tensor, targets: Tensor, layer: OutputLayer): Tensor[] {
  const first = [tf.zeros(targets.shape)];
  return sumChunks(hidden, targets, layer.weight.shape[0]!, first, rows => [
    tf.unsortedSegmentSum(scoresOf(rows, layer).losses, rows.places as never, targets.shape[0]!),
  ]);
}

/** The gradient of hidden or weight, given that of the losses: dy [n]. */
function tokenLossesGrad(
  hidden: Tensor,
  targets: Tensor,
  dy: Tensor,
  layer: OutputLayer,
  of: 'hidden' | 'weight',
) {
  const { weight } = layer;
  const first = [tf.zerosLike(of === 'hidden' ? hidden : weight)];
  return sumChunks(hidden, targets, weight.shape[0]!, first, rows => {
    const slopes = tf.gather(dy, rows.places as never).expandDims(1);
    const gradients = gradientsOf(rows, scoresOf(rows, layer).logits, layer, slopes);
    if (of === 'weight') return [gradients.weight()];
    return [tf.unsortedSegmentSum(gradients.hidden(), rows.places as never, hidden.shape[0]!)];
  });
}

/** The rows of every group. */
function splitGroups(x: Tensor, sizes: Tensor): Tensor[] {
  let start = 0;
  return Array.from(sizes.dataSync(), size => {
    start += size;
    return tf.slice(x, [start - size, 0], [size, x.shape[1]!]);
  });
}

const outputLayer = ({ weight, bias }: Tensors, { softcap }: Attributes): OutputLayer => ({
  weight: weight!,
  cap: (softcap as number) || null,
  bias: bias ?? null,
});

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
  Gelu: ({ x }, { approximate }) => [x!.mul(GELUS[approximate as GeluForm].gate(x!))],
  GeluGrad: ({ dy, x }, { approximate }) => [dy!.mul(GELUS[approximate as GeluForm].slope(x!))],
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
  Attention(inputs, attributes) {
    const given = unlisted(Object.values(inputs), attributes.biased as boolean);
    return [attend(given, attributes as unknown as AttentionKind)];
  },
  AttentionGrad(inputs, attributes) {
    const [dy, output, ...rest] = Object.values(inputs) as [Tensor, Tensor, ...Tensor[]];
    const given = unlisted(rest, attributes.biased as boolean);
    const names = attributes.of === 'bias' ? (['bias'] as const) : (['query', 'key', 'value'] as const);
    return attentionGradients(names, given, attributes as unknown as AttentionKind, dy, output);
  },
  GroupProduct(inputs, { transposeB }) {
    const [x, sizes, ...weights] = Object.values(inputs) as [Tensor, Tensor, ...Tensor[]];
    const parts = splitGroups(x, sizes).map((rows, group) =>
      tf.matMul(rows as never, weights[group] as never, false, transposeB as boolean),
    );
    return [tf.concat(parts.filter(({ shape }) => shape[0]! > 0))];
  },
  GroupProductGrad(inputs) {
    const [dy, x, sizes] = Object.values(inputs) as [Tensor, Tensor, Tensor];
    const [slopes, rows] = [splitGroups(dy, sizes), splitGroups(x, sizes)];
    return slopes.map((slope, group) => tf.matMul(slope as never, rows[group] as never, true));
  },
  CrossEntropy: (inputs, attributes) =>
    crossEntropy(inputs.hidden!, inputs.targets!, {
      ...outputLayer(inputs, attributes),
      gradients: attributes.gradients as string,
    }),
  TokenLosses: (inputs, attributes) =>
    tokenLosses(inputs.hidden!, inputs.targets!, outputLayer(inputs, attributes)),
  TokenLossesGrad: (inputs, attributes) =>
    tokenLossesGrad(
      inputs.hidden!,
      inputs.targets!,
      inputs.dy!,
      outputLayer(inputs, attributes),
      attributes.of as 'hidden' | 'weight',
    ),
};
