// Softmax attention with its gradients, as programs call it. Positions, caches and packing are expressed by the mask.
import type { Tensor } from '@tensorflow/tfjs';
import {
  type AttentionInput,
  type AttentionInputs,
  type AttentionKind,
  type Block,
  blocksOf,
  gradientOf,
  isLong,
  joined,
  listed,
  maskOf,
  meanSlope,
  outputOf,
  scoreGradient,
  unlisted,
  weightsOf,
} from './attention-blocks.ts';
import { differentiable, primitive } from './primitive.ts';

export interface AttentionOptions {
  /** The mask hides every key after its query (length = keys), so the masked half need not be computed. */
  readonly causal?: boolean;
  /** Limits scores to (-softcap, softcap) before the mask is added; see softcap.ts. */
  readonly softcap?: number | null;
  /** [rows or 1, heads, length, keys], added to the scores like the mask, but with a gradient. */
  readonly bias?: Tensor | null;
}

/**
 * softmax(query key^T * scale + mask) value, with the scores softcapped if asked for. query [rows, heads, length,
 * headDim]; key, value [rows, kvHeads, keys, headDim], where query head h reads key head floor(h * kvHeads / heads);
 * mask [rows or 1, length, keys] is added (0 or a large negative number such as -1e9; no gradient). -> [rows, heads,
 * length, headDim]. A query that sees no key averages over all keys.
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
  const kind = { scale, causal, softcap: softcap ?? 0 };
  const blocks = blocksOf(query, key, causal);
  const inputs = { query, key, value, masks: blocks.map(block => maskOf(mask, block)), bias };
  return isLong(query, key) ? withoutWeights(inputs, kind) : withWeights(inputs, kind, blocks);
}

const taped = ({ query, key, value, bias }: AttentionInputs) => ({
  query,
  key,
  value,
  ...(bias && { bias }),
});

/** Keeps every block's attention weights for the backward pass. */
function withWeights(inputs: AttentionInputs, kind: AttentionKind, blocks: readonly Block[]): Tensor {
  const gradient =
    (name: AttentionInput) =>
    ([dy]: readonly Tensor[], saved: Tensor[]): Tensor => {
      const kept = saved.slice(0, blocks.length);
      const slopes = saved.slice(blocks.length, kind.softcap ? 2 * blocks.length : blocks.length);
      const [output, ...rest] = saved.slice(kept.length + slopes.length);
      const given = unlisted(rest, inputs.bias !== null);
      const mean = meanSlope(dy!, output!);
      const states = blocks.map((block, at) => ({
        block,
        dy: dy!,
        weights: kept[at]!,
        dScores: () =>
          scoreGradient(given, { weights: kept[at]!, slope: slopes[at] ?? null }, dy!, mean, block),
      }));
      return gradientOf(name, given, kind, states);
    };
  return differentiable({
    inputs: taped(inputs),
    forward() {
      const all = blocks.map((block, at) => weightsOf(inputs, kind, block, at));
      const output = joined(blocks.map((block, at) => outputOf(inputs, all[at]!.weights, block)));
      const kept = [...all.map(({ weights }) => weights), ...all.flatMap(({ slope }) => slope ?? [])];
      return { outputs: [output], save: [...kept, output, ...listed(inputs)] };
    },
    gradients: {
      query: gradient('query'),
      key: gradient('key'),
      value: gradient('value'),
      bias: gradient('bias'),
    },
  })[0]!;
}

const named = (tensors: readonly Tensor[]) =>
  Object.fromEntries(tensors.map((tensor, i) => [`input ${i}`, tensor]));

/**
 * Keeps only the output, as FlashAttention does (https://arxiv.org/abs/2205.14135); the backward pass recomputes the
 * weights block by block.
 */
function withoutWeights(inputs: AttentionInputs, kind: AttentionKind): Tensor {
  const attributes = { ...kind, biased: inputs.bias !== null };
  const gradient =
    (of: 'inputs' | 'bias', at = 0) =>
    ([dy]: readonly Tensor[], saved: Tensor[]): Tensor =>
      primitive('AttentionGrad', named([dy!, ...saved]), { ...attributes, of })[at]!;
  return differentiable({
    inputs: taped(inputs),
    forward() {
      const [output] = primitive('Attention', named(listed(inputs)), attributes);
      return { outputs: [output!], save: [output!, ...listed(inputs)] };
    },
    gradients: {
      query: gradient('inputs', 0),
      key: gradient('inputs', 1),
      value: gradient('inputs', 2),
      bias: gradient('bias'),
    },
  })[0]!;
}
