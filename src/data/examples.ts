// Chat and completion lines -> tokens and loss mask. Trained are the answers of the assistant, with their end-of-turn token. The
// tokens before an answer are exactly its prompt at inference. Reads no files.

import { TemplateError } from './chat-template.ts';
import {
  type ChatLine,
  type CompletionLine,
  contentText,
  isChatLine,
  lineTools,
  type TrainingLine,
} from './conversation.ts';
import type { ExampleForm, Sequence } from './example-form.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Date for templates that print one, so that the tokens of a training file do not depend on the day. */
export const TRAINING_DATE = new Date('2024-07-26T00:00:00Z');

/** A trained answer within a rendered text. */
interface Span {
  start: number;
  end: number;
}

/** Renders the first `count` messages. */
type Render = (count: number, addGenerationPrompt: boolean) => string;

interface Rendering {
  text: string;
  spans: Span[];
}

/** Text generation: the loss is next-token prediction. */
export const generationForm: ExampleForm = {
  identity: 'generation',
  sequences: 1,
  values: 0,
  generates: true,
  examples: (line, tokenizer) =>
    makeSequences(line as TrainingLine, tokenizer).map(sequence => ({ sequences: [sequence], values: [] })),
  answer: line => referenceText(line as TrainingLine),
};

/**
 * Usually one sequence. If a template renders an earlier answer differently once the conversation continues (Qwen3 removes its
 * reasoning), each such answer gets a sequence that ends with it, so that it is trained in the form in which it is generated.
 * Throws TemplateError if the template rejects the conversation.
 */
export function makeSequences(line: TrainingLine, tokenizer: Tokenizer): Sequence[] {
  if (!isChatLine(line)) return [completionSequence(line, tokenizer)];
  return renderAnswers(line, tokenizer).map(rendering => chatSequence(rendering, tokenizer));
}

export interface EvaluationPrompt {
  tokens: Int32Array;
  /** The text of the last assistant message, or the completion. */
  reference: string;
}

/** The prompt of an evaluation, from a line; null if the line has no text answer (a tool call). */
export function evaluationPrompt(line: TrainingLine, tokenizer: Tokenizer): EvaluationPrompt | null {
  if (!isChatLine(line)) {
    return { tokens: Int32Array.from(tokenizer.encodePrompt(line.prompt)), reference: line.completion };
  }
  const last = lastAnswer(line);
  const reference = referenceText(line);
  if (reference === null) return null;
  const prompt = tokenizer.encodeChat(line.messages.slice(0, last), lineTools(line), GENERATION);
  return { tokens: Int32Array.from(prompt), reference };
}

/** The reference answer: the last assistant message, or the completion; null if it has no text. */
export function referenceText(line: TrainingLine): string | null {
  if (!isChatLine(line)) return line.completion;
  const last = lastAnswer(line);
  return last < 0 ? null : contentText(line.messages[last]!.content) || null;
}

const lastAnswer = (line: ChatLine) => line.messages.findLastIndex(message => message.role === 'assistant');

const GENERATION = { addGenerationPrompt: true, now: TRAINING_DATE };

function completionSequence(line: CompletionLine, tokenizer: Tokenizer): Sequence {
  const { ids, cuts } = tokenizer.encodePlainCut(line.prompt + line.completion, [line.prompt.length]);
  if (tokenizer.eosId !== null) ids.push(tokenizer.eosId);
  return buildSequence(ids, [{ start: cuts[0]!, end: ids.length }]);
}

function chatSequence({ text, spans }: Rendering, tokenizer: Tokenizer): Sequence {
  const { ids, cuts } = tokenizer.encodeCut(
    text,
    spans.flatMap(span => [span.start, span.end]),
  );
  const learnt = spans.map((_, i) =>
    endAtTurn({ start: cuts[2 * i]!, end: cuts[2 * i + 1]! }, ids, tokenizer),
  );
  const last = learnt.at(-1)!;
  const closed = tokenizer.isSpecial(ids[last.end - 1] ?? -1) && last.end > last.start;
  if (!closed && last.end === ids.length && tokenizer.eosId !== null) {
    // The template writes no end token after an answer; without one as a target, generation would never stop.
    ids.push(tokenizer.eosId);
    last.end += 1;
  }
  return buildSequence(ids, learnt);
}

/** Text after the end-of-turn token (ChatML's newline) is written by the template, never generated. */
function endAtTurn({ start, end }: Span, ids: readonly number[], tokenizer: Tokenizer): Span {
  for (let i = end - 1; i >= start; i--) {
    if (tokenizer.eosIds.includes(ids[i]!)) return { start, end: i + 1 };
  }
  return { start, end };
}

/** Drops tokens after the last target, since they do not affect the loss. */
function buildSequence(ids: readonly number[], learnt: readonly Span[]): Sequence {
  const length = learnt.at(-1)?.end ?? ids.length;
  const trained = new Uint8Array(length);
  for (const { start, end } of learnt) trained.fill(1, start, end);
  if (length > 0) trained[0] = 0;
  return { tokens: Int32Array.from(ids.slice(0, length)), trained };
}

function renderAnswers(line: ChatLine, tokenizer: Tokenizer): Rendering[] {
  const { messages } = line;
  const tools = lineTools(line);
  const render: Render = (count, addGenerationPrompt) =>
    tokenizer.renderChat(messages.slice(0, count), tools, { addGenerationPrompt, now: TRAINING_DATE });

  const whole: Rendering = { text: render(messages.length, false), spans: [] };
  const apart: Rendering[] = [];
  messages.forEach((message, i) => {
    if (message.role !== 'assistant' || message.weight === 0) return;
    const answered = i === messages.length - 1 ? whole.text : render(i + 1, false);
    const content = contentText(message.content).trim();
    const span = { start: answerStart(promptBefore(i, render), answered, content), end: answered.length };
    if (whole.text.startsWith(answered)) whole.spans.push(span);
    else apart.push({ text: answered, spans: [span] });
  });
  return whole.spans.length > 0 ? [whole, ...apart] : apart;
}

/** The prompt for message `index`; null if the template rejects a conversation that ends there. */
function promptBefore(index: number, render: Render): string | null {
  try {
    return render(index, true);
  } catch (error) {
    if (error instanceof TemplateError) return null;
    throw error;
  }
}

/**
 * Start of the part of an answer that the model generates. Usually the rendered conversation starts with the prompt. If the prompt
 * continues differently (it opens a `<think>` block), their common prefix is not trained, nor what the template inserts between it and
 * the content of the answer.
 */
function answerStart(prompt: string | null, answered: string, content: string): number {
  if (prompt !== null && answered.startsWith(prompt)) return prompt.length;
  const alike = prompt === null ? 0 : alikeLength(prompt, answered);
  const written = content === '' ? -1 : answered.indexOf(content, alike);
  if (written >= 0) return written;
  if (prompt === null)
    throw new TemplateError('The chat template does not show where an assistant message begins');
  return alike;
}

function alikeLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}
