// Scores a text: log-probabilities of its tokens, computed piece by piece with a KV cache of its own.
import type { Executable } from '../engine/program.ts';
import type { GenerativeModel } from '../models/registry.ts';
import { type LoadedAdapter, stackAdapters } from './adapter-stack.ts';
import { cacheBucket, createSources, pieceBucket, sourceBucket, stepInputs } from './batch.ts';
import { createCache, viewRows, writeTokens } from './key-value-cache.ts';
import { type TokenLogprob, tokenLogprob } from './logprobs.ts';
import type { Programs } from './programs.ts';
import type { StepShape } from './step.ts';

/** `[i]` is for token i + 1: the first token has no prediction. */
export type PromptScore = TokenLogprob[];

interface Scored {
  /** Source of an encoder-decoder; null for others. */
  source: ArrayLike<number> | null;
  tokens: ArrayLike<number>;
  adapter: LoadedAdapter | null;
  topLogprobs: number;
  maxPiece: number;
}

/** Memory limit for the logits of one piece. */
const MAX_LOGITS_BYTES = 64 * 2 ** 20;

const pieceLength = (vocabSize: number, maxPiece: number): number =>
  Math.max(1, Math.min(maxPiece, Math.floor(MAX_LOGITS_BYTES / (4 * vocabSize))));

/** Yields after every piece, so that other requests can run in between. */
export async function* scorePrompt(
  model: GenerativeModel,
  programs: Programs,
  { source, tokens, adapter, topLogprobs, maxPiece }: Scored,
): AsyncGenerator<void, PromptScore> {
  const { shape } = model;
  const stack = stackAdapters(model, null, new Set(adapter ? [adapter] : []));
  const cache = createCache(shape, 1, cacheBucket(tokens.length, shape.maxPositions));
  const row = { adapter, source: source && Array.from(source), tokens: Array.from(tokens), filled: 0 };
  const sources = row.source && createSources(shape, 1, sourceBucket(row.source.length, shape));
  const longest = pieceLength(shape.vocabSize, maxPiece);
  const scores: PromptScore = [];
  while (row.filled < row.tokens.length) {
    if (row.filled > 0) yield;
    const count = Math.min(row.tokens.length - row.filled, longest);
    const step: StepShape = {
      rows: 1,
      length: pieceBucket(count, longest),
      cache: row.filled === 0 ? 0 : cache.length,
      stack: stack?.shape ?? null,
      source: sources && { length: sources.length, read: row.filled === 0 },
      logits: 'all',
    };
    const executable: Executable = await programs.get(step);
    const cached =
      row.filled === 0 ? {} : { ...viewRows(cache, 0, 1), ...(sources && viewRows(sources, 0, 1)) };
    const produced = await executable.run({ ...stepInputs(step, [row], stack), ...cached });
    const read = { from: { row: 0, length: step.length }, to: { row: 0, position: row.filled }, count };
    writeTokens(cache, shape, produced, [read]);
    if (step.source?.read) {
      const from = { row: 0, length: step.source.length };
      const source = { from, to: { row: 0, position: 0 }, count: row.source!.length };
      writeTokens(sources!, shape, produced, [source]);
    }
    const logits = produced.logits as Float32Array;
    for (let i = 0; i < count && row.filled + i + 1 < row.tokens.length; i++) {
      const next = row.tokens[row.filled + i + 1]!;
      const after = logits.subarray(i * shape.vocabSize, (i + 1) * shape.vocabSize);
      scores.push(tokenLogprob(after, next, topLogprobs));
    }
    row.filled += count;
  }
  return scores;
}
