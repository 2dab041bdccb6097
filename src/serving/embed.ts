// Serves embedding requests: from texts to vectors. Independent of HTTP and IPC.
import type { Tokenizer } from '../data/tokenizer.ts';
import { ApiError } from '../errors.ts';
import { normalized, type Pooling } from '../models/pooling.ts';
import type { LoadedModels, OpenedModel } from './loaded-models.ts';
import type { EmbeddingEvent, EmbeddingInput, ServedModel } from './protocol.ts';

export interface EmbeddingRequest {
  readonly model: ServedModel;
  readonly inputs: readonly EmbeddingInput[];
  /** Vectors are truncated to this; null: not truncated. */
  readonly dimensions: number | null;
  readonly signal: AbortSignal;
}

/** Sum over all texts of a request; OpenAI's limit. */
const MAX_REQUEST_TOKENS = 300_000;

/** Throws ApiError for user errors, and the signal's reason when aborted. */
export const embedTexts = (models: LoadedModels, request: EmbeddingRequest): Promise<EmbeddingEvent> =>
  models.with(request.model.directory, opened => embed(opened, request));

async function embed(opened: OpenedModel, request: EmbeddingRequest): Promise<EmbeddingEvent> {
  const { inputs, dimensions, signal, model } = request;
  const embedder = await opened.embedder();
  checkDimensions(dimensions, opened.model.shape.hiddenSize);
  const texts = inputs.map((input, i) => encodeInput(opened.tokenizer, input, nameOf(inputs, i)));
  checkLengths(texts, embedder.pooling, inputs);
  const { id, adapterDirectory } = model;
  const adapter = adapterDirectory ? await opened.adapters.get(id, adapterDirectory) : null;
  signal.throwIfAborted();
  const vectors = await Promise.all(texts.map(tokens => embedder.embed({ tokens, adapter, signal })));
  return {
    type: 'embedded',
    vectors: vectors.map(vector => cut(vector, dimensions, embedder.pooling)),
    promptTokens: countOf(texts),
  };
}

const nameOf = (inputs: readonly EmbeddingInput[], index: number): string =>
  inputs.length === 1 ? 'input' : `input[${index}]`;

const countOf = (texts: readonly number[][]): number => texts.reduce((sum, { length }) => sum + length, 0);

function encodeInput(tokenizer: Tokenizer, input: EmbeddingInput, name: string): number[] {
  if (typeof input === 'string') return tokenizer.encodeWhole(input);
  const wrong = input.find(token => token >= tokenizer.vocabSize);
  if (wrong === undefined) return input;
  const message = `Invalid '${name}': token ${wrong} is out of the vocabulary's ${tokenizer.vocabSize} tokens.`;
  throw new ApiError('invalid_value', message, { param: 'input' });
}

function checkLengths(
  texts: readonly number[][],
  { maxTokens }: Pooling,
  inputs: readonly EmbeddingInput[],
): void {
  const long = texts.findIndex(({ length }) => length > maxTokens);
  if (long >= 0) {
    const { length } = texts[long]!;
    const message =
      `This model's maximum context length is ${maxTokens} tokens, however you requested ${length} tokens ` +
      `in '${nameOf(inputs, long)}'. Please reduce it.`;
    throw new ApiError('context_length_exceeded', message, { param: 'input' });
  }
  const total = countOf(texts);
  if (total <= MAX_REQUEST_TOKENS) return;
  const message = `Requested ${total} tokens, max ${MAX_REQUEST_TOKENS} tokens per request.`;
  throw new ApiError('invalid_value', message, { param: 'input' });
}

function checkDimensions(dimensions: number | null, hiddenSize: number): void {
  if (dimensions === null || dimensions <= hiddenSize) return;
  const message = `Invalid value for 'dimensions' = ${dimensions}. Must be less than or equal to ${hiddenSize}.`;
  throw new ApiError('invalid_value', message, { param: 'dimensions' });
}

/** Truncates a vector and normalizes it again if the model's vectors are normalized. */
function cut(vector: Float32Array, dimensions: number | null, { normalize }: Pooling): Float32Array {
  if (dimensions === null || dimensions === vector.length) return vector;
  const first = vector.slice(0, dimensions);
  return normalize ? normalized(first) : first;
}
