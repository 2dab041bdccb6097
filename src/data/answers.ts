// Examples of encoder-decoders: a line -> the tokens of the source and of the target. Inference encodes sources with the same
// functions, so that they match those of training. Reads no files.
import { PLAIN_TEMPLATE } from './chat-template.ts';
import {
  type ChatLine,
  contentText,
  isChatLine,
  lineTools,
  type Message,
  type Tool,
  type TrainingLine,
} from './conversation.ts';
import {
  countTrained,
  type Example,
  type ExampleForm,
  type Sequence,
  truncateSequence,
} from './example-form.ts';
import { type EvaluationPrompt, referenceText, TRAINING_DATE } from './examples.ts';
import { endedBy, truncateRead } from './labelled.ts';
import type { Tokenizer } from './tokenizer.ts';

/**
 * Encoder input for a conversation, rendered by the model's chat template. Without a template: the message contents, one per line,
 * prefixed with their roles once there is an assistant message. Throws TemplateError.
 */
export function conversationSource(
  messages: readonly Message[],
  tools: readonly Tool[] | null,
  tokenizer: Tokenizer,
  now?: Date,
): number[] {
  if (tokenizer.chatTemplates.includes(PLAIN_TEMPLATE)) return tokenizer.encodeWhole(plainText(messages));
  const tokens = tokenizer.encodeChat(messages, tools, { addGenerationPrompt: true, now });
  return endedBy(tokens, tokenizer.around.after);
}

function plainText(messages: readonly Message[]): string {
  const asked = messages.every(({ role }) => role !== 'assistant');
  return messages
    .map(({ role, content }) => (asked ? contentText(content) : `${role}: ${contentText(content)}`))
    .join('\n');
}

/** Decoder sequence: start token, BOS if the tokenizer adds one, the text, EOS. */
function answerSequence(text: string, start: number, tokenizer: Tokenizer): Sequence {
  const { before } = tokenizer.around;
  const end = tokenizer.eosId === null ? [] : [tokenizer.eosId];
  const tokens = Int32Array.from([start, ...before, ...tokenizer.encode(text), ...end]);
  const trained = new Uint8Array(tokens.length).fill(1);
  trained[0] = 0;
  return { tokens, trained };
}

function sourceSequence(tokens: readonly number[]): Sequence {
  return { tokens: Int32Array.from(tokens), trained: new Uint8Array(tokens.length) };
}

/** The trained text answers of a conversation, each with the messages before it. */
function answersOf(line: ChatLine): { before: Message[]; text: string }[] {
  return line.messages.flatMap((message, at) => {
    const text = contentText(message.content);
    const learnt = message.role === 'assistant' && message.weight !== 0 && text !== '';
    return learnt ? [{ before: line.messages.slice(0, at), text }] : [];
  });
}

function examplesOf(line: TrainingLine, start: number, tokenizer: Tokenizer): Example[] {
  const example = (source: readonly number[], text: string): Example => ({
    sequences: [sourceSequence(source), answerSequence(text, start, tokenizer)],
    values: [],
  });
  if (!isChatLine(line)) return [example(tokenizer.encodeWhole(line.prompt), line.completion)];
  return answersOf(line).map(({ before, text }) =>
    example(conversationSource(before, lineTools(line), tokenizer, TRAINING_DATE), text),
  );
}

/** The prompt of an evaluation, from a line; null if the line has no text answer. */
export function answerPrompt(line: TrainingLine, tokenizer: Tokenizer): EvaluationPrompt | null {
  const reference = referenceText(line);
  if (reference === null) return null;
  if (!isChatLine(line)) return { tokens: Int32Array.from(tokenizer.encodeWhole(line.prompt)), reference };
  const before = line.messages.slice(
    0,
    line.messages.findLastIndex(({ role }) => role === 'assistant'),
  );
  const source = conversationSource(before, lineTools(line), tokenizer, TRAINING_DATE);
  return { tokens: Int32Array.from(source), reference };
}

/** Lengths of source and target rows as fractions of the row length; one of them is 1. */
export interface RowShares {
  readonly source: number;
  readonly answer: number;
}

/** Sequences: source and target. `start`: decoder start token of the model. */
export function answerForm(start: number, shares: RowShares): ExampleForm {
  return {
    identity: `answer ${start}`,
    sequences: 2,
    values: 0,
    generates: true,
    examples: (line, tokenizer) => examplesOf(line as TrainingLine, start, tokenizer),
    answer: line => referenceText(line as TrainingLine),
    truncate: (sequence, maxLength, tokenizer) =>
      countTrained(sequence) === 0
        ? truncateRead(sequence, maxLength, tokenizer)
        : truncateSequence(sequence, maxLength),
    rowLength: ([source, answer]) =>
      Math.max(Math.ceil(source! / shares.source), Math.ceil(answer! / shares.answer)),
  };
}

const SHARES = [1, 0.75, 0.5, 0.375, 0.25, 0.125];

/** The fractions for which packed rows are shortest, given the lengths of all examples. */
export function chooseShares(lengths: readonly (readonly [source: number, answer: number])[]): RowShares {
  const all = SHARES.flatMap(share => [
    { source: 1, answer: share },
    { source: share, answer: 1 },
  ]);
  const cost = ({ source, answer }: RowShares): number =>
    (source + answer) * lengths.reduce((sum, [s, a]) => sum + Math.max(s / source, a / answer), 0);
  return all.reduce((best, one) => (cost(one) < cost(best) ? one : best));
}
