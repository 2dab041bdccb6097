// The api's client of the generation process: starts it, sends requests and receives their events.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { ReadLine } from '../data/labelled.ts';
import { computingEnvironment } from '../engine/environment.ts';
import { ApiError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { ModelCache, ModelFile } from './model-cache.ts';
import type {
  ClassificationEvent,
  EmbeddingEvent,
  EmbeddingInput,
  Failure,
  FromChild,
  GenerationEvent,
  GenerationParameters,
  ServedModel,
  ServiceOptions,
  ToChild,
} from './protocol.ts';

export interface TargetModel {
  id: string;
  /** The base model, or a fully fine-tuned one. */
  files: readonly ModelFile[];
  /** Null if the model is not an adapter. */
  adapterFiles: readonly ModelFile[] | null;
}

export interface GenerationClient {
  /**
   * The answer's events, `done` last. Throws ApiError for user errors, a full queue and a crash of the generation process.
   * Leaving the loop or aborting cancels the generation.
   */
  generate(
    model: TargetModel,
    parameters: GenerationParameters,
    signal: AbortSignal,
  ): AsyncIterable<GenerationEvent>;
  /** One vector per text. Throws like `generate`. */
  embed(model: TargetModel, request: EmbeddingParameters, signal: AbortSignal): Promise<EmbeddingEvent>;
  /** The head's outputs for each text. Throws like `generate`. */
  classify(model: TargetModel, inputs: ReadLine[], signal: AbortSignal): Promise<ClassificationEvent>;
  close(): Promise<void>;
}

export interface EmbeddingParameters {
  inputs: EmbeddingInput[];
  /** Null: the model's own. */
  dimensions: number | null;
}

export interface GenerationClientOptions {
  service: ServiceOptions;
  cache: ModelCache;
  log: Logger;
  /** Maximum of running and waiting choices; more are rejected. */
  maxPending?: number;
}

const MAX_PENDING = 512;
/** Number of texts to embed or classify that count as one choice. */
const TEXTS_OF_A_RUN = 32;
const RETRY_AFTER_SECONDS = 2;
const KILL_AFTER_MS = 3000;

type Answer = GenerationEvent | EmbeddingEvent | ClassificationEvent;

/** Answers that are a single event. */
const WHOLE = ['embedded', 'classified'] as const;
type Whole = Extract<Answer, { type: (typeof WHOLE)[number] }>;
const isWhole = (event: Answer): event is Whole => (WHOLE as readonly string[]).includes(event.type);

interface Pending {
  events: (Answer | ApiError)[];
  wake(): void;
}

export function openGenerationClient(options: GenerationClientOptions): GenerationClient {
  return new ForkedGeneration(options);
}

class ForkedGeneration implements GenerationClient {
  readonly #options: GenerationClientOptions;
  readonly #pending = new Map<number, Pending>();
  #child: ChildProcess | null = null;
  #nextId = 1;
  #load = 0;
  #closed = false;

  constructor(options: GenerationClientOptions) {
    this.#options = options;
  }

  async *generate(
    model: TargetModel,
    parameters: GenerationParameters,
    signal: AbortSignal,
  ): AsyncGenerator<GenerationEvent, void> {
    const leave = this.#enter(parameters.bestOf);
    try {
      const served = await this.#materialize(model);
      signal.throwIfAborted();
      const events = this.#ask({ type: 'generate', id: this.#nextId++, model: served, parameters }, signal);
      for await (const event of events) if (!isWhole(event)) yield event;
    } finally {
      leave();
    }
  }

  async embed(
    model: TargetModel,
    parameters: EmbeddingParameters,
    signal: AbortSignal,
  ): Promise<EmbeddingEvent> {
    const message = { type: 'embed', ...parameters } as const;
    return (await this.#askWhole(model, message, signal)) as EmbeddingEvent;
  }

  async classify(model: TargetModel, inputs: ReadLine[], signal: AbortSignal): Promise<ClassificationEvent> {
    const message = { type: 'classify', inputs } as const;
    return (await this.#askWhole(model, message, signal)) as ClassificationEvent;
  }

  async #askWhole(
    model: TargetModel,
    question: ({ type: 'embed' } & EmbeddingParameters) | { type: 'classify'; inputs: ReadLine[] },
    signal: AbortSignal,
  ): Promise<Whole> {
    const leave = this.#enter(Math.ceil(question.inputs.length / TEXTS_OF_A_RUN));
    try {
      const served = await this.#materialize(model);
      signal.throwIfAborted();
      const message = { id: this.#nextId++, model: served, ...question };
      for await (const event of this.#ask(message, signal)) if (isWhole(event)) return event;
      throw new Error(`a request to ${question.type} ended without an answer`);
    } finally {
      leave();
    }
  }

  async #materialize({ id, files, adapterFiles }: TargetModel): Promise<ServedModel> {
    const { cache } = this.#options;
    const directory = await cache.materialize(files);
    return { id, directory, adapterDirectory: adapterFiles && (await cache.materialize(adapterFiles)) };
  }

  async close(): Promise<void> {
    this.#closed = true;
    const child = this.#child;
    if (!child) return;
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    await exit;
    clearTimeout(timer);
  }

  #enter(choices: number): () => void {
    const { maxPending = MAX_PENDING } = this.#options;
    // An idle server admits a request of any size, which would otherwise never fit.
    if (this.#load > 0 && this.#load + choices > maxPending)
      throw new ApiError(
        'server_is_overloaded',
        'The server is currently overloaded with other requests. Sorry about that! Please retry.',
        {
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        },
      );
    this.#load += choices;
    return () => {
      this.#load -= choices;
    };
  }

  async *#ask(
    message: Exclude<ToChild, { type: 'cancel' }>,
    signal: AbortSignal,
  ): AsyncGenerator<Answer, void> {
    const child = this.#running();
    const { id } = message;
    const pending: Pending = { events: [], wake: () => undefined };
    this.#pending.set(id, pending);
    const onAbort = (): void => pending.wake();
    signal.addEventListener('abort', onAbort);
    let complete = false;
    try {
      send(child, message);
      while (!complete) {
        signal.throwIfAborted();
        const event = pending.events.shift();
        if (!event) {
          await new Promise<void>(resolve => {
            pending.wake = resolve;
          });
          continue;
        }
        complete = event instanceof ApiError || event.type === 'done' || isWhole(event);
        if (event instanceof ApiError) throw event;
        yield event;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#pending.delete(id);
      if (!complete) send(child, { type: 'cancel', id });
    }
  }

  /** The generation process, started on first use and again after a crash. */
  #running(): ChildProcess {
    if (this.#closed) throw new ApiError('server_is_overloaded', 'The server is shutting down.');
    this.#child ??= this.#start();
    return this.#child;
  }

  #start(): ChildProcess {
    const child = fork(new URL('child.ts', import.meta.url), [JSON.stringify(this.#options.service)], {
      serialization: 'advanced',
      execArgv: [],
      env: computingEnvironment(),
    });
    const { log } = this.#options;
    const { quantization = 'none' } = this.#options.service;
    log.info({ child: child.pid, quantization }, 'generation process started');
    child.on('message', (messages: FromChild) => {
      for (const { id, event } of messages) this.#receive(id, event);
    });
    child.on('error', error => {
      log.error({ error }, 'generation process');
      if (child.pid === undefined) this.#lost(child, error.message); // it never started, so there is no `exit`
    });
    child.on('exit', (code, signal) => this.#lost(child, signal ?? code));
    return child;
  }

  #receive(id: number, event: FromChild[number]['event']): void {
    if (event.type === 'notice') {
      this.#options.log.info(event.details, event.message);
      return;
    }
    const pending = this.#pending.get(id);
    if (!pending) return;
    pending.events.push(event.type === 'failed' ? this.#toError(event) : event);
    pending.wake();
  }

  #toError({ kind, message, param, stack }: Failure): ApiError {
    if (stack) this.#options.log.error({ stack }, 'generation failed');
    return new ApiError(kind, message, { param });
  }

  #lost(child: ChildProcess, reason: string | number | null): void {
    if (this.#child !== child) return;
    this.#child = null;
    if (!this.#closed)
      this.#options.log.error({ reason, requests: this.#pending.size }, 'generation process ended');
    for (const pending of this.#pending.values()) {
      const message =
        'The server had an error while processing your request: its generation process ended. Please retry.';
      pending.events.push(new ApiError('server_error', message));
      pending.wake();
    }
  }
}

/** Ignores errors of sending: a process that has just died is reported by `exit`. */
function send(child: ChildProcess, message: ToChild): void {
  if (child.connected) child.send(message, () => undefined);
}
