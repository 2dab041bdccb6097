// The compound ops of language models, with custom gradients, so that engines can fuse them. Programs may use these and
// any op of `tf`. No op is random: dropout masks are inputs, because a traced program has no randomness of its own.
import type { Tensor } from '@tensorflow/tfjs';
import { differentiable, primitive } from './primitive.ts';
import { tf } from './tf.ts';

/** Sums over all axes but the last: the gradient of a vector broadcast to every row. */
const sumRows = (x: Tensor): Tensor => x.sum(x.shape.slice(0, -1).map((_, axis) => axis));

/** x [..., n], weight [n] -> [..., n]: x / sqrt(mean(x^2) + eps) * weight. https://arxiv.org/abs/1910.07467 */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  return differentiable({
    inputs: { x, weight },
    forward() {
      const [y, scale] = primitive('RmsNorm', { x, weight }, { eps });
      return { outputs: [y!], save: [x, weight, scale!] };
    },
    gradients: {
      x: ([dy], [x, weight, scale]) =>
        primitive('RmsNormGrad', { dy: dy!, x: x!, weight: weight!, scale: scale! }, {})[0]!,
      weight: ([dy], [x, , scale]) => sumRows(dy!.mul(x!).mul(scale!)),
    },
  })[0]!;
}

/** x [..., n], weight [n], bias [n] -> [..., n]. https://arxiv.org/abs/1607.06450 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  return differentiable({
    inputs: { x, weight, bias },
    forward() {
      const [y, mean, scale] = primitive('LayerNorm', { x, weight, bias }, { eps });
      return { outputs: [y!], save: [x, weight, mean!, scale!] };
    },
    gradients: {
      x: ([dy], [x, weight, mean, scale]) =>
        primitive('LayerNormGrad', { dy: dy!, x: x!, weight: weight!, mean: mean!, scale: scale! }, {})[0]!,
      weight: ([dy], [x, , mean, scale]) => sumRows(dy!.mul(x!.sub(mean!)).mul(scale!)),
      bias: ([dy]) => sumRows(dy!),
    },
  })[0]!;
}

/** PyTorch's and ONNX's names for the `approximate` option. */
export type GeluForm = 'none' | 'tanh';

const geluOf =
  (approximate: GeluForm) =>
  (x: Tensor): Tensor =>
    differentiable({
      inputs: { x },
      forward: () => ({ outputs: primitive('Gelu', { x }, { approximate }), save: [x] }),
      gradients: { x: ([dy], [x]) => primitive('GeluGrad', { dy: dy!, x: x! }, { approximate })[0]! },
    })[0]!;

/** GELU in the tanh form that GPT-2 was trained with (`gelu_new`): x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)). */
export const gelu = geluOf('tanh');

/** Exact GELU: x times the standard normal CDF. https://arxiv.org/abs/1606.08415 */
export const geluExact = geluOf('none');

/**
 * x [..., n] -> [..., count, n] one-hot: the largest element of each row, then the second largest, and so on. No
 * gradient.
 */
export function pickLargest(x: Tensor, count: number): Tensor {
  return differentiable({
    inputs: { x },
    forward() {
      const { indices } = tf.topk(x, count);
      return { outputs: [tf.oneHot(indices as never, x.shape.at(-1)!, 1, 0, 'float32')], save: [] };
    },
    gradients: {},
  })[0]!;
}

/**
 * Rows of a table [n, width] by indices [...] -> [..., width]. Looking up row `still` contributes no gradient to it,
 * like `padding_idx` of torch.nn.Embedding; other uses of the table do.
 */
export function lookUp(table: Tensor, indices: Tensor, still: number): Tensor {
  return differentiable({
    inputs: { table, indices },
    forward: () => ({ outputs: [tf.gather(table, indices as never)], save: [indices] }),
    gradients: {
      table([dy], [at]) {
        const moves = at!.notEqual(tf.scalar(still, 'int32')).toFloat().expandDims(-1);
        const rows = dy!.mul(moves).reshape([-1, table.shape[1]!]);
        return tf.unsortedSegmentSum(rows, at!.flatten() as never, table.shape[0]!);
      },
    },
  })[0]!;
}

/** x * sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return differentiable({
    inputs: { x },
    forward: () => ({ outputs: primitive('Silu', { x }, {}), save: [x] }),
    gradients: { x: ([dy], [x]) => primitive('SiluGrad', { dy: dy!, x: x! }, {})[0]! },
  })[0]!;
}

/** Rotates every pair (i, i + headDim / 2) by its angle. */
const turn = (x: Tensor, cos: Tensor, sin: Tensor): Tensor => primitive('Rotary', { x, cos, sin }, {})[0]!;

/**
 * Rotary position embedding as in Hugging Face's Llama: element i is paired with element i + headDim / 2. x [rows,
 * heads, length, headDim]; cos, sin [rows, length, headDim / 2], constants without a gradient.
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
  /** Scalar int32: rows whose target has the largest logit (ties count). */
  readonly correct: Tensor;
  /** Scalar int32: rows that have a target. */
  readonly count: Tensor;
}

/**
 * Cross-entropy of a language model's output layer, without ever holding [n, vocab] for all rows at once. hidden [n,
 * width], outputWeight [vocab, width], targets [n] int32, -1 where a row has none: such rows cost nothing. Gradients
 * flow from `lossSum` into hidden and outputWeight. `softcap` limits the logits (softcap.ts). `bias` [vocab] is added
 * to the logits and gets no gradient; it excludes a softcap.
 */
export function crossEntropySums(
  hidden: Tensor,
  outputWeight: Tensor,
  targets: Tensor,
  softcap: number | null = null,
  bias: Tensor | null = null,
): CrossEntropySums {
  if (softcap !== null && bias) throw new Error('scores are either capped or biased');
  const attributes = { softcap: softcap ?? 0 };
  const inputs = { hidden, weight: outputWeight, targets, ...(bias && { bias }) };
  const gradient =
    (of: 'hidden' | 'weight') =>
    ([dy]: readonly Tensor[], [hidden, weight, targets, bias]: Tensor[]): Tensor => {
      const saved = { hidden: hidden!, weight: weight!, targets: targets!, ...(bias && { bias }) };
      return primitive('CrossEntropy', saved, { ...attributes, gradients: of })
        .at(-1)!
        .mul(dy!);
    };
  const [lossSum, correct, count] = differentiable({
    inputs,
    forward: () => ({
      outputs: primitive('CrossEntropy', inputs, { ...attributes, gradients: 'none' }),
      save: [hidden, outputWeight, targets, ...(bias ? [bias] : [])],
    }),
    gradients: { hidden: gradient('hidden'), weight: gradient('weight') },
  });
  return { lossSum: lossSum!, correct: correct!, count: count! };
}

export interface OutputLayer {
  /** [vocab, width] */
  readonly weight: Tensor;
  /** Limits the logits; see softcap.ts. */
  readonly softcap?: number | null;
  /** [vocab], without a gradient; excludes a softcap. */
  readonly bias?: Tensor | null;
}

/**
 * -log p(target) of every row: hidden [n, width], targets [n] int32 -> [n] float32, 0 where the target is -1 (such rows
 * cost nothing). For losses that are not a plain sum over tokens. Gradients flow into hidden and the layer's weight, at
 * the cost of computing the logits twice; `crossEntropySums` computes them once.
 */
export function tokenLosses(
  hidden: Tensor,
  { weight, softcap = null, bias = null }: OutputLayer,
  targets: Tensor,
): Tensor {
  const attributes = { softcap: softcap ?? 0 };
  const given = { hidden, weight, targets, ...(bias && { bias }) };
  const gradient =
    (of: 'hidden' | 'weight') =>
    ([dy]: readonly Tensor[], [hidden, weight, targets, bias]: Tensor[]): Tensor => {
      const saved = { hidden: hidden!, weight: weight!, targets: targets!, dy: dy!, ...(bias && { bias }) };
      return primitive('TokenLossesGrad', saved, { ...attributes, of })[0]!;
    };
  return differentiable({
    inputs: given,
    forward: () => ({ outputs: primitive('TokenLosses', given, attributes), save: Object.values(given) }),
    gradients: { hidden: gradient('hidden'), weight: gradient('weight') },
  })[0]!;
}

export { softmaxAttention } from './attention.ts';
export { type Groups, groupProduct, groupRows, layApart, layTogether } from './groups.ts';
