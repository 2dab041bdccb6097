// Samples a model's answers to several prompts at once, with any adapter: tokens, text and tool calls. Grading is left to the
// caller.
import { join } from 'node:path';
import type { Tool, ToolCall } from '../data/conversation.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { Engine } from '../engine/program.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { Model } from '../models/registry.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { type AnswerForm, type AnswerGrammars, openAnswerGrammars } from '../serving/answer-grammar.ts';
import { createChoiceText } from '../serving/choice.ts';
import { createConstraint, type TokenGrammar } from '../serving/constraint/constraint.ts';
import { Generator } from '../serving/generator.ts';
import { GREEDY } from '../serving/sampling.ts';
import { copyForServing } from '../serving/serving-weights.ts';
import { createCallReader } from '../serving/tool-calls.ts';
import { TrainingFailure } from './failure.ts';

export interface Question {
  prompt: Int32Array;
  tools: readonly Tool[];
  /** Unsigned 32 bit; makes the answer of a model reproducible. */
  seed: number;
}

export interface Answer {
  /** Includes the end-of-turn token if the model generated it. */
  tokens: number[];
  text: string;
  toolCalls: ToolCall[];
}

export interface Answerer {
  /** Questions share a batch. `adapter` null: the model itself. Rejects with the signal's reason when aborted. */
  answer(
    questions: readonly Question[],
    adapter: LoadedAdapter | null,
    signal: AbortSignal,
  ): Promise<Answer[]>;
  close(): Promise<void>;
}

export interface AnswererOptions {
  engine: Engine;
  model: Model;
  tokenizer: Tokenizer;
  answerLength: number;
  form: AnswerForm | null;
  cacheDirectory: string;
}

/** Throws TrainingFailure for a form that cannot be enforced. */
export async function openAnswerer(options: AnswererOptions): Promise<Answerer> {
  const { engine, tokenizer, answerLength } = options;
  const grammars = openAnswerGrammars(tokenizer);
  const grammar = grammarFor(grammars, options.form);
  const inFloat32 = engine.name === 'onnx' && engine.device === 'cpu';
  const model = inFloat32
    ? await copyForServing(options.model, join(options.cacheDirectory, 'widened'))
    : options.model;
  const generator = new Generator(engine, model);
  const answerOne = async (
    { prompt, tools, seed }: Question,
    adapter: LoadedAdapter | null,
    signal: AbortSignal,
  ) => {
    const tokens: number[] = [];
    await generator.generate({
      prompt,
      adapter,
      maxTokens: answerLength,
      // Temperature 1 samples from the distribution that is trained.
      sampling: { ...GREEDY, temperature: 1, seed },
      choice: 0,
      // `onToken` stops instead, so that the end-of-turn token is trained too.
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
    answer: (questions, adapter, signal) =>
      Promise.all(questions.map(question => answerOne(question, adapter, signal))),
    close: () => generator.close(),
  };
}

function grammarFor(grammars: AnswerGrammars, form: AnswerForm | null): TokenGrammar | null {
  try {
    return form && grammars.grammarOf(form);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    throw new TrainingFailure('invalid_response_format', '.response_format', error.message);
  }
}

/** Text and tool calls, as in a chat completion. */
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
  const schemas = tools.map(tool => tool.function as { name: string; parameters?: unknown });
  const reader = createCallReader(form, new Map(schemas.map(({ name, parameters }) => [name, parameters])));
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
