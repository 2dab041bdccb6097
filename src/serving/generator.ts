// Generates from one model, for many requests at once: sequences join and leave the batch between steps (continuous
// batching, Orca, OSDI 2022). It knows tokens; text, stop strings and processes are its callers'.
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

interface RowSize {
  /** Tokens that it may come to hold. */
  readonly limit: number;
  /** Tokens of what an encoder-decoder answers. */
  readonly source: number;
}

/** Whether rows may be in one batch. */
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
  /** Of an encoder-decoder. */
  readonly #rules: AnswerRules | null;
  readonly #batch: Batch;
  readonly #running: Answering[] = [];
  readonly #waiting: Answering[] = [];
  readonly #scores: Scoring[] = [];
  #loop: Promise<void> | null = null;
  #closed = false;

  /** Throws ModelError for a model that generates nothing. */
  constructor(engine: Engine, model: Model, limits: Partial<GeneratorLimits> = {}) {
    this.model = requireGenerative(model);
    this.#rules = this.model.kind === 'encoder-decoder' ? answerRules(this.model) : null;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#programs = openPrograms(engine, this.model, this.#limits.maxPrograms);
    this.#batch = createBatch(this.model, this.#programs, this.#limits.maxPiece);
  }

  /** Requests that are running or waiting. */
  get load(): number {
    return this.#running.length + this.#waiting.length + this.#scores.length;
  }

  /** Rejects with the signal's reason when it is aborted, and with ConstraintFailure where the constraint cannot be kept. */
  generate(request: GenerationRequest): Promise<GenerationEnd> {
    const beginning = this.#begin(request.prompt);
    return this.#enqueue(settled => answerBySampling(request, beginning, settled));
  }

  /** As many answers as there are beams, the best first. Rejects as `generate` does. */
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

  /** Log-probabilities of a text's own tokens, from the second on. */
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

  /** The last leaves first: of those that end together, none takes the place of another. */
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
