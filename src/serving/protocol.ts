// IPC messages between the api and the generation process. Plain data only.
import type { Message, Tool } from '../data/conversation.ts';
import type { ReadLine } from '../data/labelled.ts';
import type { ErrorKind } from '../errors.ts';
import type { Problem } from '../formats/classifier-config.ts';
import type { ColumnQuantization } from '../formats/quantization.ts';
import type { AnswerForm } from './answer-grammar.ts';
import type { BeamOptions } from './beams.ts';
import type { Sampling } from './sampling.ts';

/** A model's local folders. */
export interface ServedModel {
  /** As the request names it. */
  id: string;
  /** Hugging Face folder: the base model, or a fully fine-tuned one. */
  directory: string;
  /** PEFT folder; null if the model is not an adapter. */
  adapterDirectory: string | null;
}

export type Prompt =
  | {
      kind: 'chat';
      messages: Message[];
      tools: Tool[] | null;
      /** Drop the oldest turns if the context cannot hold all. */
      truncate?: boolean;
      /** Name of the request's parameter; default `messages`. */
      param?: string;
    }
  | { kind: 'text'; text: string }
  | { kind: 'tokens'; tokens: number[] };

/** A prompt and the parameters of generation. */
export interface GenerationParameters {
  prompt: Prompt;
  n: number;
  /** Number of candidates, of which the `n` with the best mean log-probability are returned. At least `n`. */
  bestOf: number;
  /** Null: as many as the context holds. */
  maxTokens: number | null;
  sampling: Sampling;
  /** Beam search instead of sampling. Absent or null: no. */
  beams?: BeamOptions | null;
  stop: string[];
  /** Constraint on the answer; null: any text. */
  form: AnswerForm | null;
  /** Number of alternatives reported per token; null: no log-probabilities. */
  topLogprobs: number | null;
  /** Prepend the prompt to the answer, with its log-probabilities if requested. */
  echo: boolean;
  /** Emit pieces as they are generated; otherwise one piece per choice. */
  stream: boolean;
}

export interface Candidate {
  /** Text; bytes that are not whole characters as `\xe2\x82`. */
  text: string;
  bytes: number[];
  /** Null for the first token of an echoed prompt. */
  logprob: number | null;
}

export interface TokenPiece extends Candidate {
  /** Offset in the choice's text, in UTF-16 code units. */
  offset: number;
  top: Candidate[];
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

export type GenerationEvent =
  | { type: 'started'; promptTokens: number }
  /** `tokens` is empty unless log-probabilities were requested. */
  | { type: 'piece'; choice: number; text: string; tokens: TokenPiece[] }
  /** A part of a tool call. Id and name come only with the first part. */
  | { type: 'call'; choice: number; index: number; id: string | null; name: string | null; arguments: string }
  | { type: 'finished'; choice: number; finishReason: FinishReason }
  | { type: 'done'; promptTokens: number; completionTokens: number };

/** A text, or its tokens. */
export type EmbeddingInput = string | number[];

/** The complete answer to an embedding request. */
export interface EmbeddingEvent {
  type: 'embedded';
  /** [hiddenSize] each. */
  vectors: Float32Array[];
  promptTokens: number;
}

/** The complete answer to a classification request. */
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
  /** Stack of an internal error, for the log; null for user errors. */
  stack: string | null;
}

/** A log message that belongs to no request. */
export interface Notice {
  type: 'notice';
  message: string;
  details: Readonly<Record<string, string | number>>;
}

/** The id of notices. */
export const NO_REQUEST = 0;

export type ToChild =
  | { type: 'generate'; id: number; model: ServedModel; parameters: GenerationParameters }
  | { type: 'embed'; id: number; model: ServedModel; inputs: EmbeddingInput[]; dimensions: number | null }
  | { type: 'classify'; id: number; model: ServedModel; inputs: ReadLine[] }
  | { type: 'cancel'; id: number };

/** Events are batched. `done`, `embedded`, `classified` and `failed` are a request's last. */
export type FromChild = {
  id: number;
  event: GenerationEvent | EmbeddingEvent | ClassificationEvent | Failure | Notice;
}[];

/** Options of the generation process, passed as its first argument in JSON. */
export interface ServiceOptions {
  engine: 'onnx' | 'tensorflow' | 'cpu';
  device: 'auto' | 'cpu' | 'cuda' | 'webgpu';
  /** Of matrix products; default float32. */
  precision?: 'float32' | 'bfloat16';
  threads: number;
  /** Limit of the weights of all models together; at least one model is kept. */
  modelBytes: number;
  /** Limit of the adapters of one base model. */
  adapterBytes: number;
  /** Limit of the KV cache of one base model's batch. */
  cacheBytes: number;
  /** Folder for quantized and packed copies of weights; see base-weights.ts. */
  cacheDirectory: string;
  /** Of base weights for text generation; default `none`. */
  quantization?: 'none' | ColumnQuantization;
  /** Of the process; default 8. */
  niceness?: number;
}
