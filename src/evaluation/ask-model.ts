// Asks a model one question, for graders and evaluations: a model served here, or one of the configured OpenAI-compatible API.
// It knows neither graders nor HTTP routes.
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { APIError } from 'openai';
import type pg from 'pg';
import type { Config } from '../config.ts';
import type { Message, ToolCall } from '../data/conversation.ts';
import { ApiError } from '../errors.ts';
import { estimateTokens, waitForRoom } from '../metering/admission.ts';
import { limitedModel } from '../metering/limited-model.ts';
import type { UsageRecorder } from '../metering/usage-recorder.ts';
import type { GenerationClient } from '../serving/client.ts';
import type { GenerationParameters } from '../serving/protocol.ts';
import { readTarget, type Target } from '../serving/target.ts';
import type { UsageCounts, UsageKind } from '../store/usage.ts';
import type { ChatAnswer, ChatQuestion, GraderTools } from './graders/grader.ts';

export interface ModelDeps {
  readonly config: Config;
  readonly pool: pg.Pool;
  readonly generation: GenerationClient;
  readonly usage: UsageRecorder;
}

/** Who asks. */
export interface Asker {
  readonly projectId: string;
  readonly apiKeyId: string;
}

const REMOTE_TIMEOUT_MS = 120_000;

/** Throws ApiError when a model is neither served here nor can be asked elsewhere. */
export async function checkModel(
  { config, pool }: ModelDeps,
  projectId: string,
  model: string,
  param: string,
) {
  if (config.graderUrl || (await readTarget(pool, projectId, model))) return;
  throw noSuchModel(model, param);
}

/**
 * What is asked of models served here counts as the project's, under its limits: where one is reached it waits for up to
 * `patienceSeconds`, then throws LimitReached.
 */
export function modelTools(
  deps: ModelDeps,
  asker: Asker,
  patienceSeconds = 0,
): Pick<GraderTools, 'ask' | 'embed'> {
  const { projectId } = asker;
  const { graderUrl, graderApiKey, graderEmbeddingModel } = deps.config;
  const remote =
    graderUrl &&
    new OpenAI({ baseURL: graderUrl, apiKey: graderApiKey ?? 'none', timeout: REMOTE_TIMEOUT_MS });
  return {
    async ask(question, signal) {
      const target = await readTarget(deps.pool, projectId, question.model);
      if (target) {
        const { model, messages, maxTokens } = question;
        const request = { kind: 'completions', model, tokens: estimateTokens(messages, maxTokens) } as const;
        const ask = () => askHere(deps.generation, target, question, signal);
        return metered(deps, asker, request, { patienceSeconds, signal }, async () => {
          const answer = await askAgain(ask, signal);
          return { answer, counts: countsOf(answer) };
        });
      }
      if (!remote) throw noSuchModel(question.model, 'model');
      return askRemote(remote, question, signal).catch(error => rethrow(error, signal));
    },
    embed: graderEmbeddingModel
      ? async (texts, signal) => {
          const target = await readTarget(deps.pool, projectId, graderEmbeddingModel);
          const model = graderEmbeddingModel;
          const request = { kind: 'embeddings', model, tokens: estimateTokens(texts, 0) } as const;
          const embed = () => embedHere(deps.generation, target!, texts, signal);
          if (target) return metered(deps, asker, request, { patienceSeconds, signal }, embed);
          if (!remote) throw noSuchModel(graderEmbeddingModel, 'model');
          return embedRemote(remote, graderEmbeddingModel, texts, signal).catch(error =>
            rethrow(error, signal),
          );
        }
      : null,
  };
}

/** Whether something makes embeddings for `cosine`. */
export const canEmbed = ({ graderEmbeddingModel }: Config): boolean => graderEmbeddingModel !== null;

function noSuchModel(model: string, param: string): ApiError {
  const message = `The model \`${model}\` does not exist or you do not have access to it.`;
  return new ApiError('model_not_found', message, { param });
}

interface AskedOfModel {
  kind: UsageKind;
  model: string;
  /** At most, as far as one knows before. */
  tokens: number;
}

/** Lets it in under the project's limits, and notes what it took. */
async function metered<Answer>(
  { pool, usage }: ModelDeps,
  { projectId, apiKeyId }: Asker,
  { kind, model: name, tokens }: AskedOfModel,
  waiting: { patienceSeconds: number; signal: AbortSignal },
  work: () => Promise<{ answer: Answer; counts: UsageCounts }>,
): Promise<Answer> {
  const model = limitedModel(name);
  const limited = await waitForRoom(pool, { projectId, model, tokens }, waiting);
  let spent = 0;
  try {
    const { answer, counts } = await work();
    spent = counts.inputTokens + counts.outputTokens;
    usage.record({ kind, projectId, apiKeyId, model: name, batch: false }, counts);
    return answer;
  } finally {
    if (limited && spent !== tokens) usage.settle(projectId, model, spent - tokens);
  }
}

// ---- here

const ATTEMPTS = 3;
const BETWEEN_MS = 1000;

/** A generation process that was lost is there again soon; a full queue has room. */
async function askAgain(ask: () => Promise<ChatAnswer>, signal: AbortSignal): Promise<ChatAnswer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      const passing = error instanceof ApiError && error.status >= 500;
      if (!passing || attempt === ATTEMPTS) throw error;
    }
    await sleep(attempt * BETWEEN_MS, undefined, { signal });
  }
}

async function askHere(
  generation: GenerationClient,
  { model }: Target,
  question: ChatQuestion,
  signal: AbortSignal,
): Promise<ChatAnswer> {
  const answer: ChatAnswer = {
    text: '',
    toolCalls: [],
    refusal: null,
    finishReason: 'stop',
    usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, cached_tokens: 0 },
  };
  for await (const event of generation.generate(model, toParameters(question), signal)) {
    if (event.type === 'piece') answer.text += event.text;
    else if (event.type === 'call') addCall(answer.toolCalls, event);
    else if (event.type === 'finished') answer.finishReason = event.finishReason;
    else if (event.type === 'done') answer.usage = usageOf(event.promptTokens, event.completionTokens);
  }
  return answer;
}

function toParameters({ messages, tools, form, ...question }: ChatQuestion): GenerationParameters {
  return {
    prompt: { kind: 'chat', messages: messages.map(toMessage), tools },
    n: 1,
    bestOf: 1,
    maxTokens: question.maxTokens,
    sampling: {
      temperature: question.temperature,
      topP: question.topP,
      seed: question.seed >>> 0,
      frequencyPenalty: 0,
      presencePenalty: 0,
      logitBias: {},
    },
    stop: [],
    form,
    topLogprobs: null,
    echo: false,
    stream: false,
  };
}

/** Chat templates know the older name. */
function toMessage({ role, content }: ChatQuestion['messages'][number]): Message {
  return { role: role === 'developer' ? 'system' : (role as Message['role']), content };
}

function addCall(
  calls: ToolCall[],
  part: { index: number; id: string | null; name: string | null; arguments: string },
): void {
  calls[part.index] ??= {
    id: part.id ?? '',
    type: 'function',
    function: { name: part.name ?? '', arguments: '' },
  };
  calls[part.index]!.function.arguments += part.arguments;
}

function countsOf({ usage }: ChatAnswer): UsageCounts {
  return {
    requests: 1,
    inputTokens: usage.prompt_tokens,
    cachedTokens: usage.cached_tokens,
    outputTokens: usage.completion_tokens,
  };
}

function usageOf(prompt: number, completion: number, cached = 0): ChatAnswer['usage'] {
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    cached_tokens: cached,
  };
}

async function embedHere(
  generation: GenerationClient,
  { model }: Target,
  inputs: string[],
  signal: AbortSignal,
): Promise<{ answer: number[][]; counts: UsageCounts }> {
  const { vectors, promptTokens } = await generation.embed(model, { inputs, dimensions: null }, signal);
  const counts = { requests: 1, inputTokens: promptTokens, cachedTokens: 0, outputTokens: 0 };
  return { answer: vectors.map(vector => [...vector]), counts };
}

// ---- elsewhere

async function askRemote(client: OpenAI, question: ChatQuestion, signal: AbortSignal): Promise<ChatAnswer> {
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
  const choice = completion.choices[0];
  if (!choice) throw new ApiError('server_error', `The model ${question.model} gave no answer.`);
  const { usage } = completion;
  return {
    text: choice.message.content ?? '',
    toolCalls: (choice.message.tool_calls ?? []) as ToolCall[],
    refusal: choice.message.refusal ?? null,
    finishReason: choice.finish_reason,
    usage: usageOf(
      usage?.prompt_tokens ?? 0,
      usage?.completion_tokens ?? 0,
      usage?.prompt_tokens_details?.cached_tokens ?? 0,
    ),
  };
}

async function embedRemote(
  client: OpenAI,
  model: string,
  texts: string[],
  signal: AbortSignal,
): Promise<number[][]> {
  const { data } = await client.embeddings.create(
    { model, input: texts, encoding_format: 'float' },
    { signal },
  );
  return data.map(each => each.embedding);
}

/** The other API's trouble, told as such. */
function rethrow(error: unknown, signal: AbortSignal): never {
  signal.throwIfAborted();
  if (!(error instanceof APIError)) throw error;
  throw new ApiError('server_error', `The API for graders failed: ${error.message}`, { cause: error });
}
