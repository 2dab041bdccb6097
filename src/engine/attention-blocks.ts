// The arithmetic of softmax attention and its gradients on blocks of queries: which blocks there are, and what is
// computed for one. What is kept for the backward pass, and who iterates over the blocks, is decided by the callers.
import type { Tensor, Tensor4D } from '@tensorflow/tfjs';
import { softcap as cap, softcapSlope } from './softcap.ts';
import { tf } from './tf.ts';

/** Options of attention; stored as attributes of graph nodes. */
export interface AttentionKind {
  readonly scale: number;
  /** The masks hide every key after its query, so the masked half is not computed. */
  readonly causal: boolean;
  /** 0: none. */
  readonly softcap: number;
}

export interface AttentionInputs {
  /** [rows, heads, length, headDim] */
  readonly query: Tensor;
  /** Both [rows, kvHeads, keys, headDim]. */
  readonly key: Tensor;
  readonly value: Tensor;
  /** One for every block: [rows or 1, queries, keys] */
  readonly masks: readonly Tensor[];
  /** [rows or 1, heads, length, keys] */
  readonly bias: Tensor | null;
}

/** Inputs in the order in which graph nodes take them. */
export const listed = ({ query, key, value, masks, bias }: AttentionInputs): Tensor[] => [
  query,
  key,
  value,
  ...(bias ? [bias] : []),
  ...masks,
];

export function unlisted([query, key, value, ...rest]: readonly Tensor[], biased: boolean): AttentionInputs {
  const [bias, masks] = biased ? [rest[0]!, rest.slice(1)] : [null, rest];
  return { query: query!, key: key!, value: value!, masks, bias };
}

/** Queries `start` to `end` (exclusive), and the keys 0 to `keys` (exclusive) that they may see. */
export interface Block {
  readonly start: number;
  readonly end: number;
  readonly keys: number;
}

interface Shaped {
  readonly shape: readonly number[];
}

const lengthsOf = (query: Shaped, key: Shaped) => ({
  length: query.shape[2]!,
  keys: key.shape[2]!,
  group: query.shape[1]! / key.shape[1]!,
});

/** Scores per head (length * keys) from which on the backward pass recomputes them, and blocks are larger. */
const LONG = 1 << 20;

/**
 * Whether the backward pass recomputes the attention weights. Measured with GPT-2 in int8 on two cores: a step with a
 * row of 2048 tokens takes 8% less time this way and 2.1 instead of 5.3 GB; with 1024 tokens, 3% less and 1.5 instead
 * of 2.2 GB. Attention over 512 tokens would take a fifth longer.
 */
export function isLong(query: Shaped, key: Shaped): boolean {
  const { length, keys } = lengthsOf(query, key);
  return length * keys >= LONG;
}

/** Queries per block: small enough that causal blocks skip most of the masked half, large enough for fast products. */
const BLOCK = 128;
/** In long rows most of the keys lie before the block; larger blocks slice them less often. */
const LONG_BLOCK = 256;
const LEAST_BLOCK = 16;
/** Without a causal mask, blocks only limit memory: the scores of one block are freed before the next. */
const WIDE = 1024;

/** The query heads that share a key head are computed together, so a block has fewer queries of each. */
function blockSize(query: Shaped, key: Shaped, causal: boolean): number {
  const { length, group } = lengthsOf(query, key);
  if (isLong(query, key)) return Math.max(LEAST_BLOCK, Math.floor(LONG_BLOCK / group));
  if (causal) return BLOCK;
  return length < WIDE ? length : LONG_BLOCK;
}

export function blocksOf(query: Shaped, key: Shaped, causal: boolean): Block[] {
  const { length, keys } = lengthsOf(query, key);
  const size = blockSize(query, key, causal);
  if (length < 2 * size) return [{ start: 0, end: length, keys }];
  return Array.from({ length: Math.ceil(length / size) }, (_, i) => {
    const end = Math.min(length, (i + 1) * size);
    return { start: i * size, end, keys: causal ? end : keys };
  });
}

/** Rows `start` to `end` of the axis before the last. */
function along(x: Tensor, start: number, end: number): Tensor {
  const length = x.shape[x.rank - 2]!;
  if (start === 0 && end === length) return x;
  const begin = x.shape.map((_, axis) => (axis === x.rank - 2 ? start : 0));
  return x.slice(begin, x.shape.with(-2, end - start));
}

const product = (a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor =>
  tf.matMul(a as Tensor4D, b as Tensor4D, transposeA, transposeB);

/** Stacks the query heads of each key head: [rows, heads, length, d] -> [rows, kvHeads, group * length, d]. */
const stack = (x: Tensor, { shape: [, kvHeads] }: Shaped): Tensor =>
  x.reshape([x.shape[0]!, kvHeads!, (x.shape[1]! / kvHeads!) * x.shape[2]!, x.shape[3]!]);

/** The inverse of `stack`. */
const unstack = (x: Tensor, { shape: [rows, heads] }: Shaped): Tensor =>
  x.reshape([rows!, heads!, (x.shape[1]! * x.shape[2]!) / heads!, x.shape[3]!]);

/** mask [rows or 1, length, keys] -> what a block sees of it. */
export const maskOf = (mask: Tensor, { start, end, keys }: Block): Tensor =>
  mask.slice([0, start, 0], [mask.shape[0]!, end - start, keys]);

export interface Weights {
  /** Softmax of the scores [rows, kvHeads, group * queries, keys]. */
  readonly weights: Tensor;
  /** d capped score / d score, as the weights are stacked; null without a cap. */
  readonly slope: Tensor | null;
}

/** `at` is the block's index. */
export function weightsOf(inputs: AttentionInputs, kind: AttentionKind, block: Block, at: number): Weights {
  const { query, key, masks, bias } = inputs;
  const { start, end, keys } = block;
  const [rows, heads] = query.shape as [number, number];
  const queries = stack(along(query, start, end), key);
  const products = product(queries, along(key, 0, keys), false, true).mul(kind.scale);
  const scores = cap(products, kind.softcap || null);
  const apart = scores.reshape([rows, heads, end - start, keys]);
  const biased = bias
    ? apart.add(bias.slice([0, 0, start, 0], [bias.shape[0]!, heads, end - start, keys]))
    : apart;
  const weights: Tensor = tf.softmax(biased.add(masks[at]!.expandDims(1)));
  return {
    weights: weights.reshape(scores.shape),
    slope: kind.softcap ? softcapSlope(scores, kind.softcap) : null,
  };
}

/** [rows, heads, queries, headDim] */
export const outputOf = ({ query, value }: AttentionInputs, weights: Tensor, { keys }: Block): Tensor =>
  unstack(product(weights, along(value, 0, keys)), query);

/** sum(weights * d weights) of every query, which is sum(output * d output): https://arxiv.org/abs/2205.14135 */
export const meanSlope = (dy: Tensor, output: Tensor): Tensor => dy.mul(output).sum(-1, true);

/** d loss / d scores of a block, stacked like its weights. */
export function scoreGradient(
  { key, value }: AttentionInputs,
  { weights, slope }: Weights,
  dy: Tensor,
  mean: Tensor,
  { start, end, keys }: Block,
): Tensor {
  const dWeights = product(stack(along(dy, start, end), key), along(value, 0, keys), false, true);
  const dScores = weights.mul(dWeights.sub(stack(along(mean, start, end), key)));
  return slope ? dScores.mul(slope) : dScores;
}

/** Pads a block's part of a gradient over keys with zeros for the keys it does not see. */
function padKeys(x: Tensor, keys: number): Tensor {
  const hidden = keys - x.shape[3]!;
  const paddings = [0, 0, 0, hidden].map(after => [0, after] as [number, number]);
  return hidden === 0 ? x : tf.pad(x, paddings);
}

/** Sums a gradient over rows where its input is shared by all rows. */
const ofRows = (x: Tensor, rows: number): Tensor => (x.shape[0] === rows ? x : x.sum(0, true));

/** A block in the backward pass. */
export interface Slopes {
  readonly block: Block;
  /** d loss / d output, of all queries. */
  readonly dy: Tensor;
  readonly weights: Tensor;
  /** d loss / d scores, stacked as the weights are. */
  dScores(): Tensor;
}

type Part = (inputs: AttentionInputs, kind: AttentionKind, slopes: Slopes) => Tensor;

/** A block's contribution to the gradient of each input. */
const PARTS = {
  query: ({ query, key }, { scale }, { dScores, block }) =>
    unstack(product(dScores(), along(key, 0, block.keys)).mul(scale), query),
  key: ({ query, key }, { scale }, { dScores, block: { start, end } }) =>
    product(dScores(), stack(along(query, start, end), key), true).mul(scale),
  value: ({ key }, _, { weights, dy, block: { start, end } }) =>
    product(weights, stack(along(dy, start, end), key), true),
  bias({ query, key, bias }, _, { dScores, block: { start, end, keys } }) {
    const [rows, heads] = query.shape as [number, number];
    const apart = dScores().reshape([rows, heads, end - start, keys]);
    return ofRows(padKeys(apart, key.shape[2]!), bias!.shape[0]!);
  },
} satisfies Record<string, Part>;

export type AttentionInput = keyof typeof PARTS;

/** Concatenates blocks along the queries. */
export const joined = (parts: readonly Tensor[]): Tensor =>
  parts.length === 1 ? parts[0]! : tf.concat(parts as Tensor[], 2);

/**
 * Sums blocks that see a growing prefix of the keys, from the last block on: the keys that no earlier block sees are
 * split off as finished.
 */
function summed(parts: readonly Tensor[]): Tensor {
  const done: Tensor[] = [];
  const sum = parts.reduceRight((sum, part) => {
    const seen = part.shape[2]!;
    const unseen = sum.shape[2]! - seen;
    if (unseen === 0) return sum.add(part);
    const [first, rest] = tf.split(sum, [seen, unseen], 2) as [Tensor, Tensor];
    done.unshift(rest);
    return first.add(part);
  });
  return joined([sum, ...done]);
}

const WHOLE: Record<AttentionInput, (parts: readonly Tensor[]) => Tensor> = {
  query: joined,
  key: summed,
  value: summed,
  bias: joined,
};

/** The gradient of one input, combined from all blocks. */
export const gradientOf = (
  name: AttentionInput,
  inputs: AttentionInputs,
  kind: AttentionKind,
  slopes: readonly Slopes[],
): Tensor => WHOLE[name](slopes.map(each => PARTS[name](inputs, kind, each)));

/** The whole forward pass; keeps nothing but the output. */
export function attend(inputs: AttentionInputs, kind: AttentionKind): Tensor {
  const blocks = blocksOf(inputs.query, inputs.key, kind.causal);
  return joined(
    blocks.map((block, at) =>
      tf.tidy(() => outputOf(inputs, weightsOf(inputs, kind, block, at).weights, block)),
    ),
  );
}

/** The gradients of the named inputs; recomputes the weights. */
export function attentionGradients(
  names: readonly AttentionInput[],
  inputs: AttentionInputs,
  kind: AttentionKind,
  dy: Tensor,
  output: Tensor,
): Tensor[] {
  const mean = meanSlope(dy, output);
  const parts = blocksOf(inputs.query, inputs.key, kind.causal).map((block, at) =>
    tf.tidy(() => {
      const weights = weightsOf(inputs, kind, block, at);
      const dScores = scoreGradient(inputs, weights, dy, mean, block);
      const slopes = { block, dy, weights: weights.weights, dScores: () => dScores };
      return names.map(name => PARTS[name](inputs, kind, slopes));
    }),
  );
  return names.map((name, i) => WHOLE[name](parts.map(part => part[i]!)));
}
