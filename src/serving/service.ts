// Serves generation requests: from a prompt to pieces of text. Independent of HTTP and IPC.
import { ApiError } from '../errors.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import { schemaParam } from './answer-grammar.ts';
import { allowedTokens, checkBias, encodeFitting } from './asked.ts';
import type { BeamOptions } from './beams.ts';
import { type ChoicePiece, createChoiceText, toCandidate, toTokenPiece } from './choice.ts';
import { type CallsExpected, type ChoiceOutput, createChoiceOutput } from './choice-output.ts';
import { answerInWords } from './classify.ts';
import { ConstraintFailure, createConstraint, type TokenGrammar } from './constraint/constraint.ts';
import type { LoadedModel, LoadedModels, OpenedModel } from './loaded-models.ts';
import type { GenerationEvent, GenerationParameters, ServedModel } from './protocol.ts';

export interface ServiceRequest {
  model: ServedModel;
  parameters: GenerationParameters;
  signal: AbortSignal;
  emit(event: GenerationEvent): void;
}

/** Resolves after emitting `done`. Throws ApiError for user errors, and the signal's reason when aborted. */
export async function answerRequest(models: LoadedModels, request: ServiceRequest): Promise<void> {
  try {
    await models.with(request.model.directory, async opened => {
      const asked = await opened.heads.find(request.model);
      if (asked) await answerInWords(opened, asked, request);
      else await answer(requireGenerator(opened, request), request);
    });
  } catch (cause) {
    if (!(cause instanceof ConstraintFailure)) throw cause;
    const message = `The schema cannot be enforced: ${cause.message}.`;
    throw new ApiError('invalid_value', message, { param: schemaParam(request.parameters.form), cause });
  }
}

/** Throws if the model does not generate text. */
function requireGenerator(opened: OpenedModel, { model, parameters }: ServiceRequest): LoadedModel {
  const { generator } = opened;
  if (generator) return { ...opened, generator };
  const [what, where] =
    parameters.prompt.kind === 'chat' ? ['chat', 'chat/completions'] : ['completion', 'completions'];
  const message = `This is not a ${what} model and thus not supported in the v1/${where} endpoint. ${model.id} is an ${opened.model.kind} model.`;
  throw new ApiError('not_found', message, { param: 'model' });
}

async function answer(model: LoadedModel, request: ServiceRequest): Promise<void> {
  const { parameters, signal, emit } = request;
  const { id, adapterDirectory } = request.model;
  const calls = expectedCalls(model, parameters);
  const grammar = parameters.form && model.grammars.grammarOf(parameters.form);
  const prompt = encodeFitting(model, parameters);
  checkBias(model.tokenizer, parameters);
  const maxTokens = allowedTokens(model, parameters, prompt);
  const adapter = adapterDirectory ? await model.adapters.get(id, adapterDirectory) : null;
  signal.throwIfAborted();
  emit({ type: 'started', promptTokens: prompt.length });
  const echo = parameters.echo ? await echoPrompt(model, adapter, prompt, request) : null;
  const job: ChoiceJob = { model, adapter, prompt, maxTokens, echo, grammar, calls, request };
  const completionTokens =
    parameters.beams && maxTokens > 0 ? await searchChoices(job, parameters.beams) : await sampleChoices(job);
  emit({ type: 'done', promptTokens: prompt.length, completionTokens });
}

/** Throws if the model does not support tool calls. */
function expectedCalls({ grammars }: LoadedModel, { form }: GenerationParameters): CallsExpected | null {
  if (!form?.calls) return null;
  const { tools, parallel } = form.calls;
  if (grammars.toolForm)
    return {
      form: grammars.toolForm,
      tools: new Map(tools.map(({ name, parameters }) => [name, parameters.schema])),
      parallel,
    };
  const message =
    "Unsupported parameter: 'tools' is not supported with this model: its chat template does not support tools, or writes calls in an unknown form.";
  throw new ApiError('unsupported_parameter', message, { param: 'tools' });
}

/** The prompt as the first piece of every choice. */
async function echoPrompt(
  { generator, tokenizer }: LoadedModel,
  adapter: LoadedAdapter | null,
  prompt: readonly number[],
  { parameters, signal }: ServiceRequest,
): Promise<ChoicePiece> {
  // Decoding drops a BOS that the tokenizer has added.
  const text = (count: number): string => tokenizer.decode(prompt.slice(0, count));
  const piece: ChoicePiece = { text: text(prompt.length), tokens: [] };
  if (parameters.topLogprobs === null) return piece;
  if (generator.model.kind !== 'causal') {
    const message =
      "Unsupported parameter: 'echo' with 'logprobs' is not supported with this model: an encoder-decoder gives no probabilities to its prompt.";
    throw new ApiError('unsupported_parameter', message, { param: 'echo' });
  }
  const scores = await generator.score({
    tokens: prompt,
    adapter,
    topLogprobs: parameters.topLogprobs,
    signal,
  });
  const decoder = tokenizer.streamDecoder();
  let offset = 0;
  prompt.forEach((token, i) => {
    const score = scores[i - 1];
    piece.tokens.push(
      score
        ? toTokenPiece(tokenizer, score, offset)
        : { ...toCandidate(tokenizer, token, null), offset, top: [] },
    );
    offset += tokenizer.isSpecial(token) ? 0 : decoder.push(token).length;
  });
  return piece;
}

interface ChoiceJob {
  model: LoadedModel;
  adapter: LoadedAdapter | null;
  prompt: readonly number[];
  maxTokens: number;
  echo: ChoicePiece | null;
  grammar: TokenGrammar | null;
  calls: CallsExpected | null;
  request: ServiceRequest;
}

interface Choice {
  tokens: number;
  meanLogprob: number;
  /** Emits the held events, as choice `index`. */
  release(index: number): void;
}

/** -> generated tokens */
async function sampleChoices(job: ChoiceJob): Promise<number> {
  const { parameters } = job.request;
  const pick = parameters.bestOf > parameters.n;
  const choices = await Promise.all(
    Array.from({ length: parameters.bestOf }, (_, index) =>
      generateChoice(job, index, pick || !parameters.stream),
    ),
  );
  if (pick) {
    const best = choices.toSorted((a, b) => b.meanLogprob - a.meanLogprob).slice(0, parameters.n);
    for (const [index, choice] of best.entries()) choice.release(index);
  }
  return choices.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** Emits the best answers of a beam search, best first. -> their tokens */
async function searchChoices(
  { model: { generator, tokenizer }, adapter, prompt, maxTokens, echo, request }: ChoiceJob,
  search: BeamOptions,
): Promise<number> {
  const { parameters, signal, emit } = request;
  const asked = { topLogprobs: parameters.topLogprobs, stopTokens: tokenizer.eosIds };
  const found = await generator.search({ prompt, adapter, maxTokens, ...asked, signal, search });
  const chosen = found.slice(0, parameters.n);
  for (const [index, { written, finishReason }] of chosen.entries()) {
    const output = createChoiceOutput({ index, hold: true, calls: null, emit });
    if (echo) output.take(echo);
    const options = {
      stopStrings: parameters.stop,
      start: echo?.text.length ?? 0,
      shown: new Set<number>(),
    };
    const text = createChoiceText(tokenizer, options, output.take);
    const stopped = written.some(each =>
      text.push(each.token, parameters.topLogprobs === null ? null : each),
    );
    if (!stopped) text.end();
    output.release(index, stopped ? 'stop' : finishReason);
  }
  return chosen.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** `hold`: emits nothing before the choice is complete; with best_of, nothing before `release`. */
async function generateChoice(job: ChoiceJob, index: number, hold: boolean): Promise<Choice> {
  const { request, echo, calls } = job;
  const pick = request.parameters.bestOf > request.parameters.n;
  const output = createChoiceOutput({ index, hold, calls, emit: request.emit });
  if (echo) output.take(echo);
  const { finishReason, tokens, meanLogprob } = await generateTokens(job, index, output);
  const release = (as: number): void => output.release(as, finishReason);
  if (!pick) release(index);
  return { tokens, meanLogprob, release };
}

async function generateTokens(
  { model, adapter, prompt, maxTokens, echo, grammar, calls, request: { parameters, signal } }: ChoiceJob,
  index: number,
  output: ChoiceOutput,
): Promise<{ finishReason: 'stop' | 'length'; tokens: number; meanLogprob: number }> {
  if (maxTokens === 0) return { finishReason: 'length', tokens: 0, meanLogprob: 0 };
  const { generator, tokenizer } = model;
  const asked = parameters.topLogprobs;
  const pick = parameters.bestOf > parameters.n;
  const shown = calls ? model.grammars.marks : new Set<number>();
  const options = { stopStrings: parameters.stop, start: echo?.text.length ?? 0, shown };
  const text = createChoiceText(tokenizer, options, output.take);
  let stopped = false;
  let sum = 0;
  const { finishReason, tokens } = await generator.generate({
    prompt,
    adapter,
    maxTokens,
    sampling: parameters.sampling,
    choice: index,
    stopTokens: tokenizer.eosIds,
    constraint: grammar && createConstraint(grammar, tokenizer.eosIds),
    topLogprobs: asked ?? (pick ? 0 : null),
    signal,
    onToken(token, logprob) {
      sum += logprob?.logprob ?? 0;
      stopped = text.push(token, asked === null ? null : logprob) || output.full;
      return stopped;
    },
  });
  if (!stopped) text.end();
  return { finishReason, tokens, meanLogprob: sum / Math.max(1, tokens) };
}
