// A line of a conversation or of a prompt and its completion -> tokens and which of them are trained: the assistant's, with the
// token that ends its turn. The tokens before an answer are exactly those that generation starts from. Nothing here reads files.

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

/** Templates that print the date get this one in training data, so that a file's tokens do not depend on the day. */
export const TRAINING_DATE = new Date('2024-07-26T00:00:00Z');

/** One learnt answer within a rendered text. */
interface Span {
  start: number;
  end: number;
}

/** The first `count` messages as text. */
type Render = (count: number, addGenerationPrompt: boolean) => string;

interface Rendering {
  text: string;
  spans: Span[];
}

/** What is generated, learnt token by token. */
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
 * Usually one. A template that writes an earlier answer differently once the conversation goes on (Qwen3 drops
 * its reasoning) makes each such answer a sequence of its own, that ends with it: it is learnt as it is generated.
 * Throws TemplateError when the template refuses the conversation.
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

/** What a model is asked when it is evaluated on a line; null when the line holds no answer in words (a tool call). */
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

/** What the line has the model answer at its end: the last assistant message, or the completion; null without words. */
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
    // The template ends an answer with nothing: without an end to learn, a model would never stop.
    ids.push(tokenizer.eosId);
    last.end += 1;
  }
  return buildSequence(ids, learnt);
}

/** What a template writes after the end of a turn (ChatML's newline) is not the model's to write. */
function endAtTurn({ start, end }: Span, ids: readonly number[], tokenizer: Tokenizer): Span {
  for (let i = end - 1; i >= start; i--) {
    if (tokenizer.eosIds.includes(ids[i]!)) return { start, end: i + 1 };
  }
  return { start, end };
}

/** What follows the last learnt token is left out: nothing is predicted from it. */
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

/** The text that the model is given when it is to write message `index`; null where the template refuses one that ends there. */
function promptBefore(index: number, render: Render): string | null {
  try {
    return render(index, true);
  } catch (error) {
    if (error instanceof TemplateError) return null;
    throw error;
  }
}

/**
 * Where the answer begins that the model has to write itself. Almost always the prompt is how the answered text begins.
 * Where a template's prompt goes further than its transcript does (it opens a `<think>` block), what is alike in both
 * is not learnt, nor what the template puts between that and the answer's own text.
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
