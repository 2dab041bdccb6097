// Sends one request to a model for graders and evaluations: a model served here, or one of the configured grader API. Rate limits and
// usage are those of the project. Independent of graders and HTTP routes.
import { setTimeout as sleep } from 'node:timers/promises';
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
import { findMethod, findModel } from '../store/models.ts';
import type { UsageCounts, UsageKind } from '../store/usage.ts';
import { type Answers, answersOf } from '../training/methods.ts';
import type { Embedded, GraderApi } from './grader-api.ts';
import type { ChatAnswer, ChatQuestion, GraderTools } from './graders/grader.ts';

export interface ModelDeps {
  readonly config: Config;
  readonly pool: pg.Pool;
  readonly generation: GenerationClient;
  readonly usage: UsageRecorder;
  readonly graderApi: GraderApi | null;
}

/** On whose behalf the request is made. */
export interface Asker {
  readonly projectId: string;
  readonly apiKeyId: string;
}

/** Which models are allowed: a judge must generate text, others may also be classifiers. */
const MAY_ANSWER = { judge: ['text'], any: ['text', 'classes'] } satisfies Record<string, Answers[]>;

/** Throws ApiError when a model is neither served here nor available from the grader API, or when it cannot answer. */
export async function checkModel(
  { graderApi, pool }: Pick<ModelDeps, 'graderApi' | 'pool'>,
  projectId: string,
  { model, param, as = 'any' }: { model: string; param: string; as?: keyof typeof MAY_ANSWER },
): Promise<void> {
  const found = await findModel(pool, projectId, model);
  if (!found) {
    if (graderApi) return;
    throw noSuchModel(model, param);
  }
  const answers = answersOf({ ...found, trainedBy: await findMethod(pool, model) });
  const needed: readonly Answers[] = MAY_ANSWER[as];
  if (answers.some(each => needed.includes(each))) return;
  const message = `Invalid '${param}': \`${model}\` answers with ${answers.join(' or ')}; a model is needed that answers with ${needed.join(' or ')}.`;
  throw new ApiError('unsupported_value', message, { param });
}

/**
 * Requests count towards the usage and rate limits of the project, also those to the grader API. At a limit, waits for up to
 * `patienceSeconds`, then throws LimitReached.
 */
export function modelTools(
  deps: ModelDeps,
  asker: Asker,
  patienceSeconds = 0,
): Pick<GraderTools, 'ask' | 'embed'> {
  const { projectId } = asker;
  const { graderEmbeddingModel } = deps.config;
  return {
    async ask(question, signal) {
      const { model, messages, maxTokens } = question;
      const target = await readTarget(deps.pool, projectId, model);
      const ask = target
        ? () => askAgain(() => askHere(deps.generation, target, question, signal), signal)
        : () => elsewhere(deps, model).ask(question, signal);
      const request = { kind: 'completions', model, tokens: estimateTokens(messages, maxTokens) } as const;
      return metered(deps, asker, request, { patienceSeconds, signal }, async () => {
        const answer = await ask();
        return { answer, counts: countsOf(answer) };
      });
    },
    embed: graderEmbeddingModel
      ? async (texts, signal) => {
          const model = graderEmbeddingModel;
          const target = await readTarget(deps.pool, projectId, model);
          const embed = target
            ? () => embedHere(deps.generation, target, texts, signal)
            : () => elsewhere(deps, model).embed(model, texts, signal);
          const request = { kind: 'embeddings', model, tokens: estimateTokens(texts, 0) } as const;
          return metered(deps, asker, request, { patienceSeconds, signal }, async () => {
            const { vectors, promptTokens } = await embed();
            const counts = { requests: 1, inputTokens: promptTokens, cachedTokens: 0, outputTokens: 0 };
            return { answer: vectors, counts };
          });
        }
      : null,
  };
}

/** The grader API, for models that are not served here. Throws ApiError if none is configured. */
function elsewhere({ graderApi }: ModelDeps, model: string): GraderApi {
  if (!graderApi) throw noSuchModel(model, 'model');
  return graderApi;
}

/** Whether a model for the embeddings of `cosine` is available. */
export const canEmbed = ({ graderEmbeddingModel }: Config): boolean => graderEmbeddingModel !== null;

function noSuchModel(model: string, param: string): ApiError {
  const message = `The model \`${model}\` does not exist or you do not have access to it.`;
  return new ApiError('model_not_found', message, { param });
}

interface AskedOfModel {
  kind: UsageKind;
  model: string;
  /** Upper bound, estimated before the request. */
  tokens: number;
}

/** Waits for the project's rate limits, then records the usage. */
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

// ---- models served here

const ATTEMPTS = 3;
const BETWEEN_MS = 1000;

/** Temporary errors: the generation process is restarting, or its queue is full. */
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
    else if (event.type === 'done') answer.usage = usageOf(event);
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

/** Chat templates expect the older role `system`. */
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

function usageOf(done: { promptTokens: number; completionTokens: number }): ChatAnswer['usage'] {
  return {
    prompt_tokens: done.promptTokens,
    completion_tokens: done.completionTokens,
    total_tokens: done.promptTokens + done.completionTokens,
    cached_tokens: 0,
  };
}

async function embedHere(
  generation: GenerationClient,
  { model }: Target,
  inputs: string[],
  signal: AbortSignal,
): Promise<Embedded> {
  const { vectors, promptTokens } = await generation.embed(model, { inputs, dimensions: null }, signal);
  return { vectors: vectors.map(vector => [...vector]), promptTokens };
}
