// Generates from one model, for many requests at once: sequences join and leave the batch between steps (continuous
// batching, Orca, OSDI 2022). It knows tokens; text, stop strings and processes are its callers'.
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../engine/program.ts';
import { type GenerativeModel, type Model, requireGenerative } from '../models/registry.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import {
  addRow,
  advanceBatch,
  type Batch,
  cacheBucket,
  createBatch,
  MAX_PIECE,
  ROW_BUCKETS,
  type Row,
  removeRow,
  rowBucket,
} from './batch.ts';
import { type Constraint, NoTokenLeft } from './constraint/constraint.ts';
import { bytesPerToken } from './key-value-cache.ts';
import { type TokenLogprob, tokenLogprob } from './logprobs.ts';
import { openPrograms, type Programs } from './programs.ts';
import { createSampler, type Sampling } from './sampling.ts';
import { type PromptScore, scorePrompt } from './score.ts';

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

export interface ScoreRequest {
  /** What an encoder-decoder's tokens, from their start on, answer; null for others. */
  source?: ArrayLike<number> | null;
  tokens: ArrayLike<number>;
  adapter: LoadedAdapter | null;
  topLogprobs: number;
  signal?: AbortSignal;
}

export interface GeneratorLimits {
  /** Sequences in one batch. */
  maxRows: number;
  /** For keys and values of the batch; one sequence is always admitted. */
  cacheBytes: number;
  /** Compiled programs that are kept. */
  maxPrograms: number;
  /** Tokens of a prompt that are read at once. */
  maxPiece: number;
}

export const DEFAULT_LIMITS: GeneratorLimits = {
  maxRows: ROW_BUCKETS.at(-1)!,
  cacheBytes: 2 ** 30,
  maxPrograms: 64,
  maxPiece: MAX_PIECE,
};

interface Sequence extends Row {
  /** Tokens it may come to hold. */
  readonly limit: number;
  readonly request: GenerationRequest;
  end: GenerationEnd | NoTokenLeft | null;
  resolve(end: GenerationEnd): void;
  reject(error: unknown): void;
}

interface Scoring {
  readonly request: ScoreRequest;
  readonly pieces: ReturnType<typeof scorePrompt>;
  resolve(score: PromptScore): void;
  reject(error: unknown): void;
}

export class Generator {
  readonly model: GenerativeModel;
  readonly #limits: GeneratorLimits;
  readonly #programs: Programs;
  readonly #batch: Batch;
  readonly #waiting: Sequence[] = [];
  readonly #scores: Scoring[] = [];
  #loop: Promise<void> | null = null;
  #closed = false;

  /** Throws ModelError for a model that generates nothing. */
  constructor(engine: Engine, model: Model, limits: Partial<GeneratorLimits> = {}) {
    this.model = requireGenerative(model);
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#programs = openPrograms(engine, this.model, this.#limits.maxPrograms);
    this.#batch = createBatch(this.model, this.#programs, this.#limits.maxPiece);
  }

  /** Sequences that are running or waiting. */
  get load(): number {
    return this.#batch.rows.length + this.#waiting.length + this.#scores.length;
  }

  /** Rejects with the signal's reason when it is aborted, and with NoTokenLeft where the constraint cannot be kept. */
  generate(request: GenerationRequest): Promise<GenerationEnd> {
    const { maxPositions } = this.model.shape;
    if (request.prompt.length === 0 || request.prompt.length >= maxPositions)
      throw new RangeError(
        `a prompt of ${request.prompt.length} tokens in a model of ${maxPositions} positions`,
      );
    return new Promise((resolve, reject) => {
      this.#waiting.push(createSequence(request, maxPositions, resolve, reject));
      this.#start();
    });
  }

  /** Log-probabilities of a text's own tokens, from the second on. */
  score(request: ScoreRequest): Promise<PromptScore> {
    return new Promise((resolve, reject) => {
      const pieces = scorePrompt(this.model, this.#programs, { source: null, ...request, maxPiece: this.#limits.maxPiece });
      this.#scores.push({ request, pieces, resolve, reject });
      this.#start();
    });
  }

  /** Ends what is running with an error. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#loop;
    await this.#programs.close();
  }

  #start(): void {
    this.#loop ??= this.#run().finally(() => {
      this.#loop = null;
      if (this.load > 0 && !this.#closed) this.#start();
    });
  }

  async #run(): Promise<void> {
    // What has been asked for in the same turn of the event loop begins together.
    await setImmediate();
    while (this.load > 0) {
      if (this.#closed) return this.#fail(new Error('the generator has been closed'));
      this.#dropAborted();
      this.#admit();
      try {
        await this.#advanceScore();
        if (this.#batch.rows.length > 0) await advanceBatch(this.#batch);
      } catch (error) {
        this.#failBatch(error);
      }
      this.#settle();
      await setImmediate();
    }
  }

  /** One piece of the scoring that has waited longest. */
  async #advanceScore(): Promise<void> {
    const scoring = this.#scores.shift();
    if (!scoring) return;
    try {
      scoring.request.signal?.throwIfAborted();
      const { done, value } = await scoring.pieces.next();
      if (done) scoring.resolve(value);
      else this.#scores.push(scoring);
    } catch (error) {
      scoring.reject(error);
    }
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.#hasRoomFor(this.#waiting[0]!))
      addRow(this.#batch, this.#waiting.shift()!);
  }

  #hasRoomFor(sequence: Sequence): boolean {
    const rows = this.#batch.rows as Sequence[];
    if (rows.length === 0) return true;
    const limit = Math.max(sequence.limit, ...rows.map(row => row.limit));
    const { shape } = this.model;
    const bytes = rowBucket(rows.length + 1) * cacheBucket(limit, shape.maxPositions) * bytesPerToken(shape);
    return rows.length < this.#limits.maxRows && bytes <= this.#limits.cacheBytes;
  }

  #dropAborted(): void {
    const aborted = (sequence: Sequence) => sequence.request.signal?.aborted ?? false;
    for (const sequence of this.#waiting.filter(aborted)) {
      this.#waiting.splice(this.#waiting.indexOf(sequence), 1);
      sequence.reject(sequence.request.signal!.reason);
    }
    for (const sequence of (this.#batch.rows as Sequence[]).filter(aborted)) {
      removeRow(this.#batch, sequence);
      sequence.reject(sequence.request.signal!.reason);
    }
  }

  #settle(): void {
    for (const sequence of (this.#batch.rows as Sequence[]).filter(row => row.end !== null)) {
      removeRow(this.#batch, sequence);
      if (sequence.end instanceof NoTokenLeft) sequence.reject(sequence.end);
      else sequence.resolve(sequence.end!);
    }
  }

  #failBatch(error: unknown): void {
    for (const sequence of [...(this.#batch.rows as Sequence[])]) {
      removeRow(this.#batch, sequence);
      sequence.reject(error);
    }
  }

  #fail(error: Error): void {
    this.#failBatch(error);
    for (const sequence of this.#waiting.splice(0)) sequence.reject(error);
    for (const scoring of this.#scores.splice(0)) scoring.reject(error);
  }
}

function createSequence(
  request: GenerationRequest,
  maxPositions: number,
  resolve: (end: GenerationEnd) => void,
  reject: (error: unknown) => void,
): Sequence {
  const { constraint = null } = request;
  const sample = createSampler(request.sampling, request.choice, constraint?.restrict);
  const limit = Math.min(maxPositions, request.prompt.length + request.maxTokens);
  const end = (finishReason: GenerationEnd['finishReason']): void => {
    sequence.end = { finishReason, tokens: sequence.tokens.length - request.prompt.length };
  };
  const takeToken = (token: number, logits: Float32Array): void => {
    sequence.tokens.push(token);
    if (request.stopTokens.includes(token)) return end('stop');
    const logprob = request.topLogprobs === null ? null : tokenLogprob(logits, token, request.topLogprobs);
    if (request.onToken(token, logprob) || constraint?.accept(token)) end('stop');
    else if (sequence.tokens.length >= limit) end('length');
  };
  const sequence: Sequence = {
    adapter: request.adapter,
    tokens: Array.from(request.prompt),
    filled: 0,
    limit,
    request,
    end: null,
    resolve,
    reject,
    take(logits) {
      try {
        takeToken(sample(logits), logits);
      } catch (error) {
        // This sequence's trouble, not that of the others in the batch.
        if (!(error instanceof NoTokenLeft)) throw error;
        sequence.end = error;
      }
    },
  };
  return sequence;
}
