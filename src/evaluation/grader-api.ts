// Client of the configured OpenAI-compatible API, which graders and evaluations use for models that are not served here. Usage and
// rate limits are in ask-model.ts.
import OpenAI, { APIError } from 'openai';
import type { Config } from '../config.ts';
import type { ToolCall } from '../data/conversation.ts';
import { ApiError } from '../errors.ts';
import { estimateTokens } from '../metering/admission.ts';
import type { ChatAnswer, ChatQuestion } from './graders/grader.ts';
import { openTurns } from './turns.ts';

export interface Embedded {
  vectors: number[][];
  promptTokens: number;
}

export interface GraderApi {
  ask(question: ChatQuestion, signal: AbortSignal): Promise<ChatAnswer>;
  embed(model: string, texts: string[], signal: AbortSignal): Promise<Embedded>;
}

export interface GraderApiLimits {
  /** Timeout of one attempt. */
  readonly timeoutMs: number;
  /** Retries after 408, 409, 429, 5xx or no response; the client obeys `retry-after`. */
  readonly retries: number;
  /** Timeout of all attempts together. */
  readonly deadlineMs: number;
}

const LIMITS: GraderApiLimits = { timeoutMs: 120_000, retries: 4, deadlineMs: 300_000 };

/** Null if none is configured. */
export function openGraderApi(
  { graderUrl, graderApiKey, graderConcurrency }: Config,
  limits: GraderApiLimits = LIMITS,
): GraderApi | null {
  if (!graderUrl) return null;
  const client = new OpenAI({
    baseURL: graderUrl,
    apiKey: graderApiKey ?? 'none',
    timeout: limits.timeoutMs,
    maxRetries: limits.retries,
  });
  const turns = openTurns(graderConcurrency);
  const inTurn = <Result>(work: (signal: AbortSignal) => Promise<Result>, signal: AbortSignal) =>
    turns.take(signal, async () => {
      const deadline = AbortSignal.timeout(limits.deadlineMs);
      try {
        return await work(AbortSignal.any([signal, deadline]));
      } catch (error) {
        signal.throwIfAborted();
        throw deadline.aborted ? tooLate(limits) : told(error);
      }
    });
  return {
    ask: (question, signal) => inTurn(within => ask(client, question, within), signal),
    embed: (model, texts, signal) => inTurn(within => embed(client, model, texts, within), signal),
  };
}

const tooLate = ({ deadlineMs }: GraderApiLimits): ApiError =>
  new ApiError('server_error', `The API for graders gave no answer within ${deadlineMs / 1000} seconds.`);

/** Wraps an error of the grader API, naming it as the source. */
function told(error: unknown): unknown {
  if (!(error instanceof APIError)) return error;
  return new ApiError('server_error', `The API for graders failed: ${error.message}`, { cause: error });
}

async function ask(client: OpenAI, question: ChatQuestion, signal: AbortSignal): Promise<ChatAnswer> {
  const completion = await client.chat.completions.create(
    {
      model: question.model,
      messages: question.messages as OpenAI.ChatCompletionMessageParam[],
      temperature: question.temperature,
      top_p: question.topP,
      seed: question.seed,
      ...(question.maxTokens === null ? {} : { max_completion_tokens: question.maxTokens }),
      ...(question.tools ? { tools: question.tools as unknown as OpenAI.ChatCompletionTool[] } : {}),
    },
    { signal },
  );
  const choice = completion.choices?.[0];
  if (!choice?.message) throw new ApiError('server_error', `The model ${question.model} gave no answer.`);
  const { message, finish_reason } = choice;
  return {
    text: message.content ?? '',
    toolCalls: (message.tool_calls ?? []) as ToolCall[],
    refusal: message.refusal ?? null,
    finishReason: finish_reason,
    usage: usageOf(completion.usage, question.messages, message.content ?? message.tool_calls),
  };
}

function usageOf(
  usage: OpenAI.CompletionUsage | undefined,
  asked: unknown,
  answered: unknown,
): ChatAnswer['usage'] {
  const prompt = countOf(usage?.prompt_tokens) ?? estimateTokens(asked, 0);
  const completion = countOf(usage?.completion_tokens) ?? estimateTokens(answered, 0);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    cached_tokens: countOf(usage?.prompt_tokens_details?.cached_tokens) ?? 0,
  };
}

/** Null if not a count. Some APIs report no usage; it is estimated then, so that limits apply nevertheless. */
const countOf = (value: unknown): number | null =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : null;

async function embed(client: OpenAI, model: string, texts: string[], signal: AbortSignal): Promise<Embedded> {
  const { data, usage } = await client.embeddings.create(
    { model, input: texts, encoding_format: 'float' },
    { signal },
  );
  if (!Array.isArray(data)) throw new ApiError('server_error', `The model ${model} gave no embeddings.`);
  return {
    vectors: data.map(each => each.embedding),
    promptTokens: countOf(usage?.prompt_tokens) ?? estimateTokens(texts, 0),
  };
}
