// The model of a run as it is now, asked for answers. What they are worth and what is learnt from them is in rollouts.ts.
import { join } from 'node:path';
import type { Tool, ToolCall } from '../data/conversation.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { Engine } from '../engine/program.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { type AnswerForm, type AnswerGrammars, openAnswerGrammars } from '../serving/answer-grammar.ts';
import { createChoiceText } from '../serving/choice.ts';
import { createConstraint, type TokenGrammar } from '../serving/constraint/constraint.ts';
import { Generator } from '../serving/generator.ts';
import { GREEDY } from '../serving/sampling.ts';
import { copyForServing } from '../serving/serving-weights.ts';
import { createCallReader } from '../serving/tool-calls.ts';
import { TrainingFailure } from './failure.ts';
import type { TrainedModel } from './programs.ts';
import { viewsOf } from './state.ts';
import { type LoraTuning, loraNames } from './trainable.ts';

export interface Question {
  prompt: Int32Array;
  tools: readonly Tool[];
  /** Unsigned 32 bit: the same one gives the same answer of the same model. */
  seed: number;
}

export interface Answer {
  /** The end of the turn included, where the model has come to it. */
  tokens: number[];
  text: string;
  toolCalls: ToolCall[];
}

export interface Policy {
  /** At once, so that they share the steps of the model. Rejects with the signal's reason. */
  answer(questions: readonly Question[], signal: AbortSignal): Promise<Answer[]>;
  close(): Promise<void>;
}

export interface PolicyOptions {
  engine: Engine;
  trained: TrainedModel;
  /** Those of the run as they are now. */
  readParameters(): Promise<Float32Array>;
  tokenizer: Tokenizer;
  answerLength: number;
  form: AnswerForm | null;
  cacheDirectory: string;
}

/** Throws TrainingFailure for a form that answers cannot be held to, and for a tuning that is no adapter. */
export async function openPolicy(options: PolicyOptions): Promise<Policy> {
  const { engine, trained, tokenizer, answerLength } = options;
  const tuning = adapterOnly(trained);
  const grammars = openAnswerGrammars(tokenizer);
  const grammar = grammarFor(grammars, options.form);
  const inFloat32 = engine.name === 'onnx' && engine.device === 'cpu';
  const model = inFloat32
    ? await copyForServing(trained.model, join(options.cacheDirectory, 'widened'))
    : trained.model;
  const generator = new Generator(engine, model);
  const answerOne = async (
    { prompt, tools, seed }: Question,
    adapter: LoadedAdapter,
    signal: AbortSignal,
  ) => {
    const tokens: number[] = [];
    await generator.generate({
      prompt,
      adapter,
      maxTokens: answerLength,
      // At 1 the answers are drawn from the very probabilities that are trained.
      sampling: { ...GREEDY, temperature: 1, seed },
      choice: 0,
      // Ended below, so that the token that ends the turn is learnt, too.
      stopTokens: [],
      constraint: grammar && createConstraint(grammar, tokenizer.eosIds),
      topLogprobs: null,
      signal,
      onToken(token) {
        tokens.push(token);
        return tokenizer.eosIds.includes(token);
      },
    });
    return { tokens, ...readAnswer(tokens, tools, { tokenizer, grammars }) };
  };
  return {
    async answer(questions, signal) {
      const adapter = adapterOf(trained, tuning, await options.readParameters());
      return Promise.all(questions.map(question => answerOne(question, adapter, signal)));
    },
    close: () => generator.close(),
  };
}

function adapterOnly({ tuning }: TrainedModel): LoraTuning {
  if (tuning.kind !== 'full') return tuning;
  const message = "reinforcement trains adapters; adapter 'full' is not served with it";
  throw new TrainingFailure('invalid_hyperparameters', '.hyperparameters.adapter', message);
}

function grammarFor(grammars: AnswerGrammars, form: AnswerForm | null): TokenGrammar | null {
  try {
    return form && grammars.grammarOf(form);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    throw new TrainingFailure('invalid_response_format', '.response_format', error.message);
  }
}

/** Copies: numbers change while a generator may still hold them. */
export function adapterOf(
  { state }: Pick<TrainedModel, 'state'>,
  tuning: LoraTuning,
  parameters: Float32Array,
): LoadedAdapter {
  const views = viewsOf(parameters, state);
  const scale = tuning.alpha / tuning.rank;
  const layers = tuning.layers.map(layer => {
    const { a, b } = loraNames(layer);
    return [layer.name, { a: views[a]!.slice(), b: views[b]!.map(x => x * scale) }] as const;
  });
  return { id: 'policy', rank: tuning.rank, bytes: 0, layers: Object.fromEntries(layers) };
}

/** Words and calls, as a chat completion would have them. */
function readAnswer(
  tokens: readonly number[],
  tools: readonly Tool[],
  { tokenizer, grammars }: { tokenizer: Tokenizer; grammars: AnswerGrammars },
): Pick<Answer, 'text' | 'toolCalls'> {
  const form = tools.length > 0 ? grammars.toolForm : null;
  let whole = '';
  const shown = form ? grammars.marks : new Set<number>();
  const text = createChoiceText(tokenizer, { stopStrings: [], start: 0, shown }, piece => {
    whole += piece.text;
  });
  for (const token of tokens) text.push(token, null);
  text.end();
  if (!form) return { text: whole, toolCalls: [] };
  const reader = createCallReader(form, new Set(tools.map(tool => (tool.function as { name: string }).name)));
  const readings = [reader.push(whole), reader.end()];
  const calls: { name: string; arguments: string }[] = [];
  for (const part of readings.flatMap(({ parts }) => parts)) {
    if (part.name !== null) calls.push({ name: part.name, arguments: part.arguments });
    else calls.at(-1)!.arguments += part.arguments;
  }
  return {
    text: readings.map(reading => reading.text).join(''),
    toolCalls: calls.map(call => ({ id: newId('toolCall'), type: 'function', function: call })),
  };
}
