// Softmax attention and its gradients, in blocks of queries. It knows no positions, caches or packing: those are in the mask.
import type { Tensor, Tensor4D } from '@tensorflow/tfjs';
import { differentiable } from './primitive.ts';
import { softcap as cap, softcapSlope } from './softcap.ts';
import { tf } from './tf.ts';

export interface AttentionOptions {
  /** Promise that the mask hides every key after its query (length = keys): the hidden half is then not computed. */
  readonly causal?: boolean;
  /** Scores are kept within (-softcap, softcap) before the mask is added; see softcap.ts. */
  readonly softcap?: number | null;
  /** [rows or 1, heads, length, keys], added to the scores like the mask, with a gradient. */
  readonly bias?: Tensor | null;
}

/** Queries of a block: small enough that a causal block skips most of the hidden half, large enough for fast products. */
const BLOCK = 128;

/** Queries from `start` to `end` (excluded) and the keys 0 to `keys` (excluded) that they may see. */
interface Block {
  readonly start: number;
  readonly end: number;
  readonly keys: number;
}

/** Without a hidden half, blocks only keep memory down: the scores of one are gone before the next. */
const WIDE_BLOCK = 256;
const WIDE = 1024;

function blocksOf(length: number, keys: number, causal: boolean): Block[] {
  const size = causal ? BLOCK : WIDE_BLOCK;
  if (length < (causal ? 2 * BLOCK : WIDE)) return [{ start: 0, end: length, keys }];
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

/** All heads that read one key head, one below the other: [rows, heads, length, d] -> [rows, kvHeads, group * length, d]. */
const stack = (x: Tensor, kvHeads: number): Tensor =>
  x.reshape([x.shape[0]!, kvHeads, (x.shape[1]! / kvHeads) * x.shape[2]!, x.shape[3]!]);

interface Inputs {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly mask: Tensor;
  readonly bias?: Tensor;
}

/** -> [rows, kvHeads, group * queries, keys] */
function blockScores({ query, key }: Inputs, scale: number, { start, end, keys }: Block): Tensor {
  const queries = stack(along(query, start, end), key.shape[1]!);
  return product(queries, along(key, 0, keys), false, true).mul(scale);
}

/** Of one block's scores: their softmax where the mask lets it. */
function blockWeights(scores: Tensor, { query, mask, bias }: Inputs, { start, end, keys }: Block): Tensor {
  const [rows, heads] = query.shape as [number, number];
  const plain = scores.reshape([rows, heads, end - start, keys]);
  const biased = bias
    ? plain.add(bias.slice([0, 0, start, 0], [bias.shape[0]!, heads, end - start, keys]))
    : plain;
  const seen = mask.slice([0, start, 0], [mask.shape[0]!, end - start, keys]).expandDims(1);
  return tf.softmax(biased.add(seen)).reshape(scores.shape);
}

/** One block's part of a gradient that runs over keys, with zeros for the keys that it does not see. */
const padKeys = (x: Tensor, keys: number): Tensor =>
  x.shape[2] === keys
    ? x
    : tf.pad(x, [
        [0, 0],
        [0, 0],
        [0, keys - x.shape[2]!],
        [0, 0],
      ]);

const joined = (parts: Tensor[]): Tensor => (parts.length === 1 ? parts[0]! : tf.concat(parts, 2));
const summed = (parts: Tensor[]): Tensor => parts.reduce((sum, part) => sum.add(part));

/** A gradient to the rows of what it is of: one for all where all share it. */
const ofRows = (x: Tensor, rows: number): Tensor => (x.shape[0] === rows ? x : x.sum(0, true));

/**
 * softmax(query key^T * scale + mask) value, the scores capped where `softcap` says so.
 * query [rows, heads, length, headDim]; key, value [rows, kvHeads, keys, headDim], where query head h reads key head
 * floor(h * kvHeads / heads); mask [rows or 1, length, keys] is added (0 or a large negative number such as -1e9; it gets no gradient).
 * -> [rows, heads, length, headDim]. A query that sees no key averages over all keys it was given.
 */
export function softmaxAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  mask: Tensor,
  scale: number,
  { causal = false, softcap = null, bias = null }: AttentionOptions = {},
): Tensor {
  if (softcap !== null && bias) throw new Error('scores are either capped or biased');
  const [rows, heads, length, headDim] = query.shape as [number, number, number, number];
  const [, kvHeads, keys] = key.shape as [number, number, number];
  const blocks = blocksOf(length, keys, causal);
  const unstack = (x: Tensor) => x.reshape([rows, heads, x.shape[2]! / (heads / kvHeads), headDim]);

  /** d loss / d scores of every block, stacked as the block's weights are. `kept` are the blocks' weights, then their slopes if capped. */
  function scoreGradients(dy: Tensor, output: Tensor, value: Tensor, kept: Tensor[]): Tensor[] {
    // sum(weights * d weights) = sum(output * d output): https://arxiv.org/abs/2205.14135
    const inner = dy.mul(output).sum(-1, true);
    return blocks.map(({ start, end, keys }, i) => {
      const dWeights = product(stack(along(dy, start, end), kvHeads), along(value, 0, keys), false, true);
      const dScores = kept[i]!.mul(dWeights.sub(stack(along(inner, start, end), kvHeads)));
      return softcap === null ? dScores : dScores.mul(kept[blocks.length + i]!);
    });
  }

  return differentiable({
    inputs: { query, key, value, mask, ...(bias && { bias }) },
    forward() {
      const inputs = { query, key, value, mask, ...(bias && { bias }) };
      const scores = blocks.map(block => cap(blockScores(inputs, scale, block), softcap));
      const weights = blocks.map((block, i) => blockWeights(scores[i]!, inputs, block));
      const slopes = softcap === null ? [] : scores.map(capped => softcapSlope(capped, softcap));
      const output = joined(
        blocks.map((block, i) => unstack(product(weights[i]!, along(value, 0, block.keys)))),
      );
      return { outputs: [output], save: [query, key, value, output, ...weights, ...slopes] };
    },
    gradients: {
      query: ([dy], [, key, value, output, ...kept]) =>
        joined(
          scoreGradients(dy!, output!, value!, kept).map((dScores, i) =>
            unstack(product(dScores, along(key!, 0, blocks[i]!.keys)).mul(scale)),
          ),
        ),
      key: ([dy], [query, , value, output, ...kept]) =>
        summed(
          scoreGradients(dy!, output!, value!, kept).map((dScores, i) => {
            const queries = stack(along(query!, blocks[i]!.start, blocks[i]!.end), kvHeads);
            return padKeys(product(dScores, queries, true).mul(scale), keys);
          }),
        ),
      value: ([dy], [, , , , ...weights]) =>
        summed(
          blocks.map(({ start, end }, i) =>
            padKeys(product(weights[i]!, stack(along(dy!, start, end), kvHeads), true), keys),
          ),
        ),
      bias: ([dy], [, , value, output, ...kept]) =>
        joined(
          scoreGradients(dy!, output!, value!, kept).map((dScores, i) => {
            const { start, end, keys: seen } = blocks[i]!;
            const whole = padKeys(dScores.reshape([rows * heads, end - start, seen, 1]), keys);
            return ofRows(whole.reshape([rows, heads, end - start, keys]), bias!.shape[0]!);
          }),
        ),
    },
  })[0]!;
}
