// Generates from one model, for many requests at once: sequences join and leave the batch between steps (continuous
// batching, Orca, OSDI 2022). Deals in tokens; text, stop strings and processes are left to the callers.
import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../engine/program.ts';
import { type AnswerRules, answerRules } from '../models/answer-rules.ts';
import { type GenerativeModel, type Model, requireGenerative } from '../models/registry.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import {
  type Answering,
  answerBySampling,
  type Beginning,
  type GenerationEnd,
  type GenerationRequest,
  type Settled,
} from './answering.ts';
import {
  addRow,
  advanceBatch,
  type Batch,
  cacheBucket,
  createBatch,
  MAX_PIECE,
  ROW_BUCKETS,
  removeRow,
  rowBucket,
  sourceBucket,
} from './batch.ts';
import { answerByBeams, type BeamAnswer, type BeamRequest } from './beams.ts';
import { bytesPerToken } from './key-value-cache.ts';
import { openPrograms, type Programs } from './programs.ts';
import { type PromptScore, scorePrompt } from './score.ts';

export interface ScoreRequest {
  /** Source of an encoder-decoder, whose `tokens` begin with the start token; null for others. */
  source?: ArrayLike<number> | null;
  tokens: ArrayLike<number>;
  adapter: LoadedAdapter | null;
  topLogprobs: number;
  signal?: AbortSignal;
}

export interface GeneratorLimits {
  /** Sequences in one batch. */
  maxRows: number;
  /** Limit of the batch's KV cache; one sequence is always admitted. */
  cacheBytes: number;
  /** Cached compiled programs. */
  maxPrograms: number;
  /** Prompt tokens per prefill step. */
  maxPiece: number;
}

export const DEFAULT_LIMITS: GeneratorLimits = {
  maxRows: ROW_BUCKETS.at(-1)!,
  cacheBytes: 2 ** 30,
  maxPrograms: 64,
  maxPiece: MAX_PIECE,
};

interface RowSize {
  /** Maximum tokens of the row. */
  readonly limit: number;
  /** Tokens of an encoder-decoder's source. */
  readonly source: number;
}

/** Whether these rows fit into one batch. */
export function fitsBatch(
  { shape, kind }: GenerativeModel,
  rows: readonly RowSize[],
  { maxRows, cacheBytes }: Pick<GeneratorLimits, 'maxRows' | 'cacheBytes'>,
): boolean {
  const limit = Math.max(...rows.map(row => row.limit));
  const source = Math.max(...rows.map(row => row.source));
  const sources = kind === 'encoder-decoder' ? sourceBucket(source, shape) : 0;
  const tokens = cacheBucket(limit, shape.maxPositions) + sources;
  return rows.length <= maxRows && rowBucket(rows.length) * tokens * bytesPerToken(shape) <= cacheBytes;
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
  /** Only for encoder-decoders. */
  readonly #rules: AnswerRules | null;
  readonly #batch: Batch;
  readonly #running: Answering[] = [];
  readonly #waiting: Answering[] = [];
  readonly #scores: Scoring[] = [];
  #loop: Promise<void> | null = null;
  #closed = false;

  /** Throws ModelError for a model that cannot generate. */
  constructor(engine: Engine, model: Model, limits: Partial<GeneratorLimits> = {}) {
    this.model = requireGenerative(model);
    this.#rules = this.model.kind === 'encoder-decoder' ? answerRules(this.model) : null;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#programs = openPrograms(engine, this.model, this.#limits.maxPrograms);
    this.#batch = createBatch(this.model, this.#programs, this.#limits.maxPiece);
  }

  /** Running and waiting requests. */
  get load(): number {
    return this.#running.length + this.#waiting.length + this.#scores.length;
  }

  /** Rejects with the signal's reason when aborted, and with ConstraintFailure if the constraint cannot be satisfied. */
  generate(request: GenerationRequest): Promise<GenerationEnd> {
    const beginning = this.#begin(request.prompt);
    return this.#enqueue(settled => answerBySampling(request, beginning, settled));
  }

  /** Beam search: as many answers as beams, best first. Rejects like `generate`. */
  search(request: BeamRequest): Promise<BeamAnswer[]> {
    const beginning = this.#begin(request.prompt);
    return this.#enqueue(settled => answerByBeams(request, beginning, settled));
  }

  #begin(prompt: ArrayLike<number>): Beginning {
    const rules = this.#rules;
    const { maxPositions } = this.model.shape;
    const longest = rules ? maxPositions : maxPositions - 1;
    if (prompt.length === 0 || prompt.length > longest)
      throw new RangeError(`a prompt of ${prompt.length} tokens in a model of ${maxPositions} positions`);
    const given = Array.from(prompt);
    return rules
      ? { source: given, tokens: [rules.start], rules, maxPositions }
      : { source: null, tokens: given, rules, maxPositions };
  }

  #enqueue<Result>(open: (settled: Settled<Result>) => Answering): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(open({ resolve, reject }));
      this.#start();
    });
  }

  /** Log-probabilities of a text's tokens, from the second on. */
  score(request: ScoreRequest): Promise<PromptScore> {
    return new Promise((resolve, reject) => {
      const pieces = scorePrompt(this.model, this.#programs, {
        source: null,
        ...request,
        maxPiece: this.#limits.maxPiece,
      });
      this.#scores.push({ request, pieces, resolve, reject });
      this.#start();
    });
  }

  /** Rejects running and waiting requests. */
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
    // Starts the requests of one turn of the event loop together.
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

  /** One piece of a scoring request, round-robin. */
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
    while (this.#waiting.length > 0 && this.#hasRoomFor(this.#waiting[0]!)) {
      const answering = this.#waiting.shift()!;
      this.#running.push(answering);
      for (const row of answering.rows) addRow(this.#batch, row);
    }
  }

  #hasRoomFor(answering: Answering): boolean {
    if (this.#running.length === 0) return true;
    const rows = [...this.#running, answering].flatMap(({ width, limit, rows: [first] }) =>
      new Array<RowSize>(width).fill({ limit, source: first!.source?.length ?? 0 }),
    );
    return fitsBatch(this.model, rows, this.#limits);
  }

  #dropAborted(): void {
    const aborted = ({ signal }: Answering): boolean => signal?.aborted ?? false;
    for (const answering of this.#waiting.filter(aborted)) {
      this.#waiting.splice(this.#waiting.indexOf(answering), 1);
      answering.reject(answering.signal!.reason);
    }
    for (const answering of this.#running.filter(aborted)) {
      this.#remove(answering);
      answering.reject(answering.signal!.reason);
    }
  }

  #remove(answering: Answering): void {
    this.#running.splice(this.#running.indexOf(answering), 1);
    for (const row of answering.rows) removeRow(this.#batch, row);
  }

  /** Removes from the end, so that requests that end in the same step are not moved into each other's places. */
  #settle(): void {
    const over = this.#running.filter(answering => answering.advance(this.#batch));
    for (const answering of over.toReversed()) this.#remove(answering);
  }

  #failBatch(error: unknown): void {
    for (const answering of [...this.#running]) {
      this.#remove(answering);
      answering.reject(error);
    }
  }

  #fail(error: Error): void {
    this.#failBatch(error);
    for (const answering of this.#waiting.splice(0)) answering.reject(error);
    for (const scoring of this.#scores.splice(0)) scoring.reject(error);
  }
}
