// Examples of classification and regression: a line -> the tokens of its text, and its targets as numbers. The set of labels is in
// labels.ts.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type ChatLine, lineTools } from './conversation.ts';
import { type ExampleForm, type Sequence, truncateSequence } from './example-form.ts';
import { TRAINING_DATE } from './examples.ts';
import { readLines } from './jsonl.ts';
import { type LabelSet, parseOrNull } from './labels.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A text, or a conversation. */
export type ReadLine = { input: string } | ChatLine;
export type LabelledLine = ReadLine & { label?: string; labels?: string[] };
export type NumberLine = ReadLine & { value: number };

/** Whether the lines of a file are texts or conversations, from the first one that parses. */
export async function readsOf(file: string): Promise<'input' | 'messages'> {
  for await (const line of readLines(createReadStream(file))) {
    const parsed = 'problem' in line ? null : parseOrNull(line.text);
    if (parsed && typeof parsed === 'object') return 'messages' in parsed ? 'messages' : 'input';
  }
  return 'input';
}

/**
 * Input tokens of classifiers and regression models. Conversations get the special tokens that surround a text (`[CLS]`, `</s>`), since
 * heads read the hidden states there. Throws TemplateError if the chat template rejects the conversation.
 */
export function readTokens(line: ReadLine, tokenizer: Tokenizer): number[] {
  if ('input' in line) return tokenizer.encodeWhole(line.input);
  const said = tokenizer.encodeChat(line.messages, lineTools(line), {
    addGenerationPrompt: false,
    now: TRAINING_DATE,
  });
  const { before, after } = tokenizer.around;
  const begins = before.every((token, i) => token === said[i]);
  return endedBy(begins ? said : [...before, ...said], after);
}

/** Appends `end` unless it is already there. */
export const endedBy = (tokens: number[], end: readonly number[]): number[] =>
  end.every((token, i) => tokens[tokens.length - end.length + i] === token) ? tokens : [...tokens, ...end];

/** All tokens are marked as trained. */
function readSequence(line: ReadLine, tokenizer: Tokenizer): Sequence {
  const tokens = Int32Array.from(readTokens(line, tokenizer));
  return { tokens, trained: new Uint8Array(tokens.length).fill(1) };
}

/** Truncates like `transformers`: drops tokens from the end but keeps special tokens after the text (`[SEP]`). */
export function truncateRead(sequence: Sequence, maxLength: number, tokenizer: Tokenizer): Sequence {
  const { tokens } = sequence;
  const { after } = tokenizer.around;
  const closes = after.every((token, i) => token === tokens[tokens.length - after.length + i]);
  if (tokens.length <= maxLength || !closes || after.length >= maxLength)
    return truncateSequence(sequence, maxLength);
  const kept = tokens.slice(0, maxLength);
  kept.set(after, maxLength - after.length);
  return { tokens: kept, trained: sequence.trained.subarray(0, maxLength) };
}

/** Values: index of the label; for multi-label data, 1 or 0 per label. */
export function classificationForm({ multiple, labels }: Pick<LabelSet, 'multiple' | 'labels'>): ExampleForm {
  const places = new Map(labels.map((label, place) => [label, place]));
  const targetsOf = (line: LabelledLine): ArrayLike<number> => {
    const found = (multiple ? line.labels! : [line.label!]).map(label => places.get(label)!);
    if (!multiple) return found;
    const targets = new Float32Array(labels.length);
    for (const place of found) targets[place] = 1;
    return targets;
  };
  return {
    identity: `classification ${multiple} ${createHash('sha256').update(JSON.stringify(labels)).digest('hex')}`,
    sequences: 1,
    values: multiple ? labels.length : 1,
    generates: false,
    examples: (line, tokenizer) => [
      {
        sequences: [readSequence(line as ReadLine, tokenizer)],
        values: targetsOf(line as LabelledLine),
      },
    ],
    answer: line => (line as LabelledLine).label ?? null,
    truncate: truncateRead,
  };
}

/** Values: the number. */
export const regressionForm: ExampleForm = {
  identity: 'regression',
  sequences: 1,
  values: 1,
  generates: false,
  examples: (line, tokenizer) => [
    { sequences: [readSequence(line as ReadLine, tokenizer)], values: [(line as NumberLine).value] },
  ],
  answer: () => null,
  truncate: truncateRead,
};
