// What the api and the generation process say to each other over process IPC. Plain data only.
import type { Message, Tool } from '../data/conversation.ts';
import type { ReadLine } from '../data/labelled.ts';
import type { ErrorKind } from '../errors.ts';
import type { Problem } from '../formats/classifier-config.ts';
import type { ColumnQuantization } from '../formats/quantization.ts';
import type { AnswerForm } from './answer-grammar.ts';
import type { BeamOptions } from './beams.ts';
import type { Sampling } from './sampling.ts';

/** Where a model lies on this machine. */
export interface ServedModel {
  /** As the request names it. */
  id: string;
  /** Hugging Face folder: the base, or a model that was trained whole. */
  directory: string;
  /** PEFT folder, where the model is an adapter on it. */
  adapterDirectory: string | null;
}

export type Prompt =
  | {
      kind: 'chat';
      messages: Message[];
      tools: Tool[] | null;
      /** Leave out the oldest messages where the context does not hold all of them. */
      truncate?: boolean;
      /** What the request calls them; `messages`. */
      param?: string;
    }
  | { kind: 'text'; text: string }
  | { kind: 'tokens'; tokens: number[] };

/** One prompt and what is to be generated from it. */
export interface GenerationParameters {
  prompt: Prompt;
  n: number;
  /** So many are generated, the `n` with the best mean log-probability returned. At least `n`. */
  bestOf: number;
  /** Null: as many as the context holds. */
  maxTokens: number | null;
  sampling: Sampling;
  /** The most probable answers are searched for instead of drawn. Absent or null: no. */
  beams?: BeamOptions | null;
  stop: string[];
  /** What the answer must be; null: any text. */
  form: AnswerForm | null;
  /** How many alternatives to give with each token; null: no log-probabilities. */
  topLogprobs: number | null;
  /** The prompt comes before the answer, with its log-probabilities where they are asked for. */
  echo: boolean;
  /** Pieces as they come; otherwise one piece for each choice. */
  stream: boolean;
}

export interface Candidate {
  /** Text; a token that is not whole characters as `\xe2\x82`. */
  text: string;
  bytes: number[];
  /** Null for the first token of an echoed prompt. */
  logprob: number | null;
}

export interface TokenPiece extends Candidate {
  /** Where its text begins in the choice's text, in UTF-16 code units. */
  offset: number;
  top: Candidate[];
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

export type GenerationEvent =
  | { type: 'started'; promptTokens: number }
  /** `tokens` is empty unless log-probabilities were asked for. */
  | { type: 'piece'; choice: number; text: string; tokens: TokenPiece[] }
  /** A further part of a tool call. Id and name come once, with the first part. */
  | { type: 'call'; choice: number; index: number; id: string | null; name: string | null; arguments: string }
  | { type: 'finished'; choice: number; finishReason: FinishReason }
  | { type: 'done'; promptTokens: number; completionTokens: number };

/** A text, or its tokens as they are. */
export type EmbeddingInput = string | number[];

/** The whole answer to texts that are to be made into vectors. */
export interface EmbeddingEvent {
  type: 'embedded';
  /** [hiddenSize] each. */
  vectors: Float32Array[];
  promptTokens: number;
}

/** The whole answer to texts whose classes or number are asked for. */
export interface ClassificationEvent {
  type: 'classified';
  problem: Problem;
  labels: string[];
  /** [labels] each: probabilities; of a regression the number. */
  outputs: number[][];
  promptTokens: number;
}

export interface Failure {
  type: 'failed';
  kind: ErrorKind;
  message: string;
  param: string | null;
  /** For the log: what went wrong inside; null for a mistake of the caller's. */
  stack: string | null;
}

/** For the log, of no request. */
export interface Notice {
  type: 'notice';
  message: string;
  details: Readonly<Record<string, string | number>>;
}

/** What a notice has instead of a request's number. */
export const NO_REQUEST = 0;

export type ToChild =
  | { type: 'generate'; id: number; model: ServedModel; parameters: GenerationParameters }
  | { type: 'embed'; id: number; model: ServedModel; inputs: EmbeddingInput[]; dimensions: number | null }
  | { type: 'classify'; id: number; model: ServedModel; inputs: ReadLine[] }
  | { type: 'cancel'; id: number };

/** Messages of one step of the generators come together. `done`, `embedded`, `classified` and `failed` are a request's last. */
export type FromChild = {
  id: number;
  event: GenerationEvent | EmbeddingEvent | ClassificationEvent | Failure | Notice;
}[];

/** How the generation process is set up; its first argument, as JSON. */
export interface ServiceOptions {
  engine: 'onnx' | 'tensorflow' | 'cpu';
  device: 'auto' | 'cpu' | 'cuda' | 'webgpu';
  /** Of matrix products; float32 where absent. */
  precision?: 'float32' | 'bfloat16';
  threads: number;
  /** For the weights of all models together; at least one model is kept. */
  modelBytes: number;
  /** For the adapters of one base model. */
  adapterBytes: number;
  /** For the keys and values of one base model's batch. */
  cacheBytes: number;
  /** Folder for copies of weights, in few bits and as a processor reads them best; see base-weights.ts. */
  cacheDirectory: string;
  /** Of the base weights that texts are written from; `none` where absent. */
  quantization?: 'none' | ColumnQuantization;
  /** Of the process; 8 where it is not given. */
  niceness?: number;
}
