// A generation request in a batch: its rows, what it does after each step, when it ends. Here the request that samples one answer;
// beam search is in beams.ts.
import { type AnswerRules, applyRules } from '../models/answer-rules.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import type { Batch, Row } from './batch.ts';
import { type Constraint, ConstraintFailure } from './constraint/constraint.ts';
import { type TokenLogprob, tokenLogprob } from './logprobs.ts';
import { createSampler, type Restrict, type Sampling, takesMostProbable } from './sampling.ts';

export interface Answering {
  /** Maximum number of rows, and of tokens per row. */
  readonly width: number;
  readonly limit: number;
  readonly signal: AbortSignal | undefined;
  /** One row before the first step. */
  readonly rows: readonly Row[];
  /** Called after every step of the batch; may add and remove rows. Returns true when it has ended and settled its promise. */
  advance(batch: Batch): boolean;
  reject(error: unknown): void;
}

export interface GenerationRequest {
  /** At least one token, fewer than the model's positions. The source of an encoder-decoder. */
  prompt: ArrayLike<number>;
  adapter: LoadedAdapter | null;
  /** At least 1; capped at the context length. */
  maxTokens: number;
  sampling: Sampling;
  /** Index of the choice within a request, so that choices with the same seed differ. */
  choice: number;
  stopTokens: readonly number[];
  /** Constrained decoding; null: none. */
  constraint?: Constraint | null;
  /** Number of alternatives reported per token; null: no log-probabilities at all. */
  topLogprobs: number | null;
  /** Called with every token except the stop token. Return true to stop. */
  onToken(token: number, logprob: TokenLogprob | null): boolean;
  signal?: AbortSignal;
}

export interface GenerationEnd {
  finishReason: 'stop' | 'length';
  /** Generated tokens, including a stop token. */
  tokens: number;
}

/** Where decoding starts: after the prompt, or for an encoder-decoder after its start token, with the prompt as source. */
export interface Beginning {
  readonly source: readonly number[] | null;
  readonly tokens: readonly number[];
  /** Only for encoder-decoders. */
  readonly rules: AnswerRules | null;
  readonly maxPositions: number;
}

export interface Settled<Result> {
  resolve(result: Result): void;
  reject(error: unknown): void;
}

function restriction({ rules }: Beginning, constraint: Constraint | null): Restrict | null {
  if (!rules || (rules.first === null && rules.never.length === 0)) return constraint?.restrict ?? null;
  let written = 0;
  return logits => {
    applyRules(rules, written, logits);
    constraint?.restrict(logits);
    written += 1;
  };
}

interface SampledRow extends Row {
  end: GenerationEnd | ConstraintFailure | null;
}

export function answerBySampling(
  request: GenerationRequest,
  beginning: Beginning,
  { resolve, reject }: Settled<GenerationEnd>,
): Answering {
  const limit = Math.min(beginning.maxPositions, beginning.tokens.length + request.maxTokens);
  const row = sampledRow(request, beginning, limit);
  return {
    width: 1,
    limit,
    signal: request.signal,
    rows: [row],
    advance() {
      if (row.end instanceof ConstraintFailure) reject(row.end);
      else if (row.end) resolve(row.end);
      return row.end !== null;
    },
    reject,
  };
}

function sampledRow(request: GenerationRequest, beginning: Beginning, limit: number): SampledRow {
  const { constraint = null } = request;
  const restrict = restriction(beginning, constraint);
  const sample = createSampler(request.sampling, request.choice, restrict);
  const readsLogits =
    restrict !== null || request.topLogprobs !== null || !takesMostProbable(request.sampling);
  const end = (finishReason: GenerationEnd['finishReason']): void => {
    row.end = { finishReason, tokens: row.tokens.length - beginning.tokens.length };
  };
  const takeToken = (token: number, logits: Float32Array | null): void => {
    row.tokens.push(token);
    if (request.stopTokens.includes(token)) {
      end('stop');
      return;
    }
    const logprob = request.topLogprobs === null ? null : tokenLogprob(logits!, token, request.topLogprobs);
    if (request.onToken(token, logprob) || constraint?.accept(token)) end('stop');
    else if (row.tokens.length >= limit) end('length');
  };
  const row: SampledRow = {
    adapter: request.adapter,
    source: beginning.source,
    tokens: [...beginning.tokens],
    filled: 0,
    end: null,
    readsLogits,
    take(best, logits) {
      try {
        takeToken(readsLogits ? sample(logits!) : best, logits);
      } catch (error) {
        // Fails only this request, not the batch.
        if (!(error instanceof ConstraintFailure)) throw error;
        row.end = error;
      }
    },
  };
  return row;
}
