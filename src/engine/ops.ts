// The compound ops of language models, with gradients of their own, so that engines can run them fused. A program may use these or any op of `tf`.
// Randomness (dropout) is not here: a traced program has none of its own, so masks come in as inputs.
import type { Tensor } from '@tensorflow/tfjs';
import { differentiable, primitive } from './primitive.ts';
import { tf } from './tf.ts';

/** Sums over all axes but the last: the gradient of a vector that was applied to every row. */
const sumRows = (x: Tensor): Tensor => x.sum(x.shape.slice(0, -1).map((_, axis) => axis));

/** x [..., n], weight [n] -> [..., n]: x / sqrt(mean(x^2) + eps) * weight. https://arxiv.org/abs/1910.07467 */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  return differentiable({
    inputs: { x, weight },
    forward() {
      const [y, scale] = primitive('RmsNorm', { x, weight }, { eps }, () => {
        const scale = x.square().mean(-1, true).add(eps).rsqrt();
        return [x.mul(scale).mul(weight), scale];
      });
      return { outputs: [y!], save: [x, weight, scale!] };
    },
    gradients: {
      x: ([dy], [x, weight, scale]) =>
        primitive('RmsNormGrad', { dy: dy!, x: x!, weight: weight!, scale: scale! }, {}, () => {
          const g = dy!.mul(weight!);
          const slope = g.mul(x!).mean(-1, true).mul(scale!.square());
          return [g.sub(x!.mul(slope)).mul(scale!)];
        })[0]!,
      weight: ([dy], [x, , scale]) => sumRows(dy!.mul(x!).mul(scale!)),
    },
  })[0]!;
}

/** x [..., n], weight [n], bias [n] -> [..., n]. https://arxiv.org/abs/1607.06450 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  return differentiable({
    inputs: { x, weight, bias },
    forward() {
      const [y, mean, scale] = primitive('LayerNorm', { x, weight, bias }, { eps }, () => {
        const mean = x.mean(-1, true);
        const centred = x.sub(mean);
        const scale = centred.square().mean(-1, true).add(eps).rsqrt();
        return [centred.mul(scale).mul(weight).add(bias), mean, scale];
      });
      return { outputs: [y!], save: [x, weight, mean!, scale!] };
    },
    gradients: {
      x: ([dy], [x, weight, mean, scale]) =>
        primitive(
          'LayerNormGrad',
          { dy: dy!, x: x!, weight: weight!, mean: mean!, scale: scale! },
          {},
          () => {
            const centred = x!.sub(mean!);
            const g = dy!.mul(weight!);
            const slope = g.mul(centred).mean(-1, true).mul(scale!.square());
            return [g.sub(g.mean(-1, true)).sub(centred.mul(slope)).mul(scale!)];
          },
        )[0]!,
      weight: ([dy], [x, , mean, scale]) => sumRows(dy!.mul(x!.sub(mean!)).mul(scale!)),
      bias: ([dy]) => sumRows(dy!),
    },
  })[0]!;
}

const CUBIC = 0.044715;
const SLOPE = 2 * Math.sqrt(2 / Math.PI);

/** GELU in the tanh form that GPT-2 was trained with (`gelu_new`): x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)). */
export function gelu(x: Tensor): Tensor {
  const gate = (x: Tensor) =>
    x
      .mul(
        x
          .square()
          .mul(SLOPE * CUBIC)
          .add(SLOPE),
      )
      .sigmoid();
  return differentiable({
    inputs: { x },
    forward: () => ({ outputs: primitive('Gelu', { x }, {}, () => [x.mul(gate(x))]), save: [x] }),
    gradients: {
      x: ([dy], [x]) =>
        primitive('GeluGrad', { dy: dy!, x: x! }, {}, () => {
          const s = gate(x!);
          const inner = x!.mul(
            x!
              .square()
              .mul(3 * SLOPE * CUBIC)
              .add(SLOPE),
          );
          return [dy!.mul(s.add(s.sub(s.square()).mul(inner)))];
        })[0]!,
    },
  })[0]!;
}

/** x * sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return differentiable({
    inputs: { x },
    forward: () => ({ outputs: primitive('Silu', { x }, {}, () => [x.mul(x.sigmoid())]), save: [x] }),
    gradients: {
      x: ([dy], [x]) =>
        primitive('SiluGrad', { dy: dy!, x: x! }, {}, () => {
          const s = x!.sigmoid();
          const y = x!.mul(s);
          return [dy!.mul(s.add(y).sub(y.mul(s)))];
        })[0]!,
    },
  })[0]!;
}

/** Turns every pair (i, i + headDim / 2) by its angle. */
function turn(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  return primitive('Rotary', { x, cos, sin }, {}, () => {
    const [first, second] = tf.split(x, 2, 3) as [Tensor, Tensor];
    const c = cos.expandDims(1);
    const s = sin.expandDims(1);
    return [tf.concat([first.mul(c).sub(second.mul(s)), second.mul(c).add(first.mul(s))], 3)];
  })[0]!;
}

/**
 * Rotary positions, in the form of Llama's Hugging Face code: element i is paired with element i + headDim / 2.
 * x [rows, heads, length, headDim]; cos, sin [rows, length, headDim / 2], taken as constants (they get no gradient).
 */
export function rotary(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  return differentiable({
    inputs: { x, cos, sin },
    forward: () => ({ outputs: [turn(x, cos, sin)], save: [cos, sin] }),
    gradients: { x: ([dy], [cos, sin]) => turn(dy!, cos!, sin!.neg()) },
  })[0]!;
}

export interface CrossEntropySums {
  /** Scalar float32: sum of -log p(target) over the rows that have a target. */
  readonly lossSum: Tensor;
  /** Scalar int32: rows whose most probable token is the target. */
  readonly correct: Tensor;
  /** Scalar int32: rows that have a target. */
  readonly count: Tensor;
}

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

/** The rows that have a target, in chunks. Reads `targets`, so it works on eager engines only. */
function* targetRows(hidden: Tensor, targets: Tensor, vocab: number): Generator<TargetRows> {
  const all = targets.dataSync();
  const places = Array.from(all.keys()).filter(row => all[row]! >= 0);
  const chunk = crossEntropyChunk(hidden.shape[0]!, vocab);
  for (let at = 0; at < places.length; at += chunk) {
    const part = places.slice(at, at + chunk);
    const index = tf.tensor1d(part, 'int32');
    const chosen = tf.tensor1d(
      part.map(row => all[row]!),
      'int32',
    );
    yield { places: index, targets: chosen, hidden: tf.gather(hidden, index) };
  }
}

/** Sums `terms` over the chunks; `zero` where there is no row. Frees what each chunk made. */
function sumChunks(
  zero: Tensor[],
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  terms: (rows: TargetRows, logits: Tensor) => Tensor[],
): Tensor[] {
  let sums = zero;
  for (const rows of targetRows(hidden, targets, weight.shape[0]!))
    sums = tf.tidy(() => {
      const logits: Tensor = tf.matMul(rows.hidden as never, weight as never, false, true);
      return terms(rows, logits).map((term, i) => sums[i]!.add(term));
    });
  return sums;
}

function eagerSums(hidden: Tensor, weight: Tensor, targets: Tensor): Tensor[] {
  const zeros = [tf.scalar(0), tf.scalar(0, 'int32')];
  const [lossSum, correct] = sumChunks(zeros, hidden, weight, targets, (rows, logits) => [
    tf.sub(tf.logSumExp(logits, -1), tf.gather(logits, rows.targets, 1, 1)).sum(),
    logits.argMax(-1).equal(rows.targets).toInt().sum(),
  ]);
  return [lossSum!, correct!, targets.greaterEqual(0).toInt().sum()];
}

const eagerHiddenGradient = (hidden: Tensor, weight: Tensor, targets: Tensor): Tensor[] =>
  sumChunks([tf.zerosLike(hidden)], hidden, weight, targets, (rows, logits) => {
    const mean: Tensor = tf.matMul(tf.softmax(logits) as never, weight as never);
    const gradient = mean.sub(tf.gather(weight, rows.targets));
    return [tf.unsortedSegmentSum(gradient, rows.places as never, hidden.shape[0]!)];
  });

const eagerWeightGradient = (hidden: Tensor, weight: Tensor, targets: Tensor): Tensor[] =>
  sumChunks([tf.zerosLike(weight)], hidden, weight, targets, (rows, logits) => {
    const spread: Tensor = tf.matMul(tf.softmax(logits) as never, rows.hidden as never, true);
    return [spread.sub(tf.unsortedSegmentSum(rows.hidden, rows.targets as never, weight.shape[0]!))];
  });

/**
 * Cross-entropy of a language model's output layer, without ever holding [n, vocab] for all rows at once.
 * hidden [n, width], outputWeight [vocab, width], targets [n] int32, -1 where a row has none: such rows cost nothing.
 * Gradients flow from `lossSum` into hidden and outputWeight.
 */
export function crossEntropySums(hidden: Tensor, outputWeight: Tensor, targets: Tensor): CrossEntropySums {
  const inputs = { hidden, weight: outputWeight, targets };
  const [lossSum, correct, count] = differentiable({
    inputs,
    forward: () => ({
      outputs: primitive('CrossEntropy', inputs, { gradients: 'none' }, () =>
        eagerSums(hidden, outputWeight, targets),
      ),
      save: [hidden, outputWeight, targets],
    }),
    gradients: {
      hidden: ([dy], [hidden, weight, targets]) =>
        primitive(
          'CrossEntropy',
          { hidden: hidden!, weight: weight!, targets: targets! },
          { gradients: 'hidden' },
          () => eagerHiddenGradient(hidden!, weight!, targets!),
        )
          .at(-1)!
          .mul(dy!),
      weight: ([dy], [hidden, weight, targets]) =>
        primitive(
          'CrossEntropy',
          { hidden: hidden!, weight: weight!, targets: targets! },
          { gradients: 'weight' },
          () => eagerWeightGradient(hidden!, weight!, targets!),
        )
          .at(-1)!
          .mul(dy!),
    },
  });
  return { lossSum: lossSum!, correct: correct!, count: count! };
}

export { type AttentionOptions, softmaxAttention } from './attention.ts';
