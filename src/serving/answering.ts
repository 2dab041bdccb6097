// One request in a batch of a generator: which rows it has, how they go on after a step, when it is over. This is the request that
// samples one answer; the one that searches for the best is in beams.ts.
import { type AnswerRules, applyRules } from '../models/answer-rules.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import type { Batch, Row } from './batch.ts';
import { type Constraint, ConstraintFailure } from './constraint/constraint.ts';
import { type TokenLogprob, tokenLogprob } from './logprobs.ts';
import { createSampler, type Restrict, type Sampling, takesMostProbable } from './sampling.ts';

export interface Answering {
  /** Rows that it may come to have, and tokens that each may come to hold. */
  readonly width: number;
  readonly limit: number;
  readonly signal: AbortSignal | undefined;
  /** One before it begins. */
  readonly rows: readonly Row[];
  /** After every step of the batch: true when it is over and has said so. It may add rows to the batch and take them away. */
  advance(batch: Batch): boolean;
  reject(error: unknown): void;
}

export interface GenerationRequest {
  /** At least one token, fewer than the model's positions. An encoder-decoder answers it, others go on from it. */
  prompt: ArrayLike<number>;
  adapter: LoadedAdapter | null;
  /** At least 1; what the context does not hold is cut off. */
  maxTokens: number;
  sampling: Sampling;
  /** Number of the choice within a request: choices of one seed differ. */
  choice: number;
  stopTokens: readonly number[];
  /** What the answer is held to; null: nothing. */
  constraint?: Constraint | null;
  /** How many alternatives to give with each token; null: no log-probabilities at all. */
  topLogprobs: number | null;
  /** Called with every token but the stop token. Returns true to stop here. */
  onToken(token: number, logprob: TokenLogprob | null): boolean;
  signal?: AbortSignal;
}

export interface GenerationEnd {
  finishReason: 'stop' | 'length';
  /** Tokens generated, a stop token included. */
  tokens: number;
}

/** Where an answer begins: after the prompt, or after a first token of its own, with the prompt as its source. */
export interface Beginning {
  readonly source: readonly number[] | null;
  readonly tokens: readonly number[];
  /** Of an encoder-decoder. */
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
        // This sequence's trouble, not that of the others in the batch.
        if (!(error instanceof ConstraintFailure)) throw error;
        row.end = error;
      }
    },
  };
  return row;
}
