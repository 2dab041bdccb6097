// Encodes a request's prompt to tokens and computes how many tokens may be generated.
import { conversationSource } from '../data/answers.ts';
import { TemplateError } from '../data/chat-template.ts';
import type { Message, Tool } from '../data/conversation.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { ApiError } from '../errors.ts';
import type { GenerativeModel } from '../models/registry.ts';
import type { LoadedModel } from './loaded-models.ts';
import type { GenerationParameters, Prompt } from './protocol.ts';

/** How a kind of model encodes prompts. */
interface Reading {
  text(tokenizer: Tokenizer, text: string): number[];
  chat(tokenizer: Tokenizer, messages: readonly Message[], tools: readonly Tool[] | null): number[];
  /** Tokens left for the answer; less than 1 if the prompt does not fit. */
  room(model: GenerativeModel, promptTokens: number): number;
}

const READINGS: Record<GenerativeModel['kind'], Reading> = {
  causal: {
    text: encodeText,
    chat: (tokenizer, messages, tools) =>
      tokenizer.encodeChat(messages, tools, { addGenerationPrompt: true }),
    room: ({ shape }, promptTokens) => shape.maxPositions - promptTokens,
  },
  'encoder-decoder': {
    text: (tokenizer, text) => tokenizer.encodeWhole(text),
    chat: (tokenizer, messages, tools) => conversationSource(messages, tools, tokenizer),
    // Source and answer have separate positions; the first position of the answer is the start token.
    room: ({ shape }, promptTokens) => (promptTokens > shape.maxPositions ? 0 : shape.maxPositions - 1),
  },
};

/**
 * The prompt's tokens; with `truncate`, without the oldest turns that do not fit into the context. If even the last turn does not
 * fit, `allowedTokens` throws.
 */
export function encodeFitting(model: LoadedModel, { prompt, maxTokens }: GenerationParameters): number[] {
  const { generator } = model;
  const { room } = READINGS[generator.model.kind];
  const fits = (tokens: readonly number[]) => (maxTokens ?? 1) <= room(generator.model, tokens.length);
  const whole = encodePrompt(model, prompt);
  if (prompt.kind !== 'chat' || !prompt.truncate || fits(whole)) return whole;
  const { messages } = prompt;
  const { instructions, laterTurns } = turnsOf(messages);
  let shortened: number[] | null = null;
  let last = whole;
  // Bisects for the longest suffix that fits: encoding a long conversation once per turn would take minutes.
  for (let [low, high] = [0, laterTurns.length - 1]; low <= high; ) {
    const middle = (low + high) >> 1;
    const rest = [...instructions, ...messages.slice(laterTurns[middle])];
    last = encodePrompt(model, { ...prompt, messages: rest });
    if (fits(last)) [shortened, high] = [last, middle - 1];
    else low = middle + 1;
  }
  return shortened ?? last;
}

/** The messages before the first turn, and the start index of every later turn (a user message). */
function turnsOf(messages: readonly Message[]): { instructions: Message[]; laterTurns: number[] } {
  const first = messages.findIndex(({ role }) => role !== 'system' && role !== 'developer');
  const laterTurns = messages.flatMap(({ role }, i) => (i > first && role === 'user' ? [i] : []));
  return first < 0
    ? { instructions: [], laterTurns: [] }
    : { instructions: messages.slice(0, first), laterTurns };
}

const paramOf = (prompt: Prompt): string =>
  prompt.kind === 'chat' ? (prompt.param ?? 'messages') : 'prompt';

function encodePrompt({ tokenizer, generator }: LoadedModel, prompt: Prompt): number[] {
  const reading = READINGS[generator.model.kind];
  if (prompt.kind === 'text') return reading.text(tokenizer, prompt.text);
  if (prompt.kind === 'chat') return encodeChat(tokenizer, prompt, reading);
  const wrong = prompt.tokens.find(token => token >= tokenizer.vocabSize);
  if (wrong === undefined) return prompt.tokens;
  throw new ApiError(
    'invalid_value',
    `Invalid 'prompt': token ${wrong} is out of the vocabulary's ${tokenizer.vocabSize} tokens.`,
    {
      param: 'prompt',
    },
  );
}

/** An empty text is encoded as the start of a document. */
function encodeText(tokenizer: Tokenizer, text: string): number[] {
  const tokens = tokenizer.encodePrompt(text);
  return tokens.length > 0 ? tokens : [tokenizer.bosId ?? tokenizer.eosId ?? 0];
}

function encodeChat(
  tokenizer: Tokenizer,
  prompt: Extract<Prompt, { kind: 'chat' }>,
  { chat }: Reading,
): number[] {
  try {
    return chat(tokenizer, prompt.messages, prompt.tools);
  } catch (cause) {
    if (!(cause instanceof TemplateError)) throw cause;
    const message = `The model's chat template refuses these messages: ${cause.message}`;
    throw new ApiError('invalid_value', message, { param: paramOf(prompt), cause });
  }
}

export function checkBias(tokenizer: Tokenizer, { sampling }: GenerationParameters): void {
  const wrong = Object.keys(sampling.logitBias).find(token => Number(token) >= tokenizer.vocabSize);
  if (wrong === undefined) return;
  const message = `Invalid key in 'logit_bias': ${wrong} is out of the vocabulary's ${tokenizer.vocabSize} tokens.`;
  throw new ApiError('invalid_value', message, { param: 'logit_bias' });
}

/** How many tokens may be generated. Throws if prompt and completion exceed the context. */
export function allowedTokens(
  { generator: { model } }: LoadedModel,
  { prompt, maxTokens }: GenerationParameters,
  tokens: readonly number[],
): number {
  const { maxPositions } = model.shape;
  const param = paramOf(prompt);
  if (tokens.length === 0)
    throw new ApiError(
      'invalid_value',
      `Invalid '${param}': the model needs at least one token to begin with.`,
      { param },
    );
  const room = READINGS[model.kind].room(model, tokens.length);
  if ((maxTokens ?? 1) <= room) return maxTokens ?? room;
  const split =
    maxTokens === null ? '' : ` (${tokens.length} in the ${param}, ${maxTokens} in the completion)`;
  const each = model.kind === 'causal' ? '' : ', for the prompt and for the completion each';
  const message =
    `This model's maximum context length is ${maxPositions} tokens${each}. However, ` +
    (maxTokens === null
      ? `your ${param} resulted in ${tokens.length} tokens. Please reduce the length of the ${param}.`
      : `you requested ${tokens.length + maxTokens} tokens${split}. Please reduce the length of the ${param} or completion.`);
  throw new ApiError('context_length_exceeded', message, { param });
}
