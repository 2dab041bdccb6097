// Lines that say what a whole text is: its class, its classes or a number -> the text's tokens, and the targets as numbers.
// Which labels there are is labels.ts'.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type ChatLine, lineTools } from './conversation.ts';
import { type ExampleForm, type Sequence, truncateSequence } from './example-form.ts';
import { TRAINING_DATE } from './examples.ts';
import { readLines } from './jsonl.ts';
import { type LabelSet, parseOrNull } from './labels.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A text alone, or a conversation as a whole. */
export type ReadLine = { input: string } | ChatLine;
export type LabelledLine = ReadLine & { label?: string; labels?: string[] };
export type NumberLine = ReadLine & { value: number };

/** How the lines of a file say what is read: as the first one does that says it. */
export async function readsOf(file: string): Promise<'input' | 'messages'> {
  for await (const line of readLines(createReadStream(file))) {
    const parsed = 'problem' in line ? null : parseOrNull(line.text);
    if (parsed && typeof parsed === 'object') return 'messages' in parsed ? 'messages' : 'input';
  }
  return 'input';
}

/**
 * The tokens that a class or a number is told of: a text, or a conversation with what the tokenizer puts around a text, since heads read
 * the states there (`[CLS]`, `</s>`). Throws TemplateError when the chat template refuses the conversation.
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

/** With `end` at its end, once. */
export const endedBy = (tokens: number[], end: readonly number[]): number[] =>
  end.every((token, i) => tokens[tokens.length - end.length + i] === token) ? tokens : [...tokens, ...end];

/** Every token counts. */
function readSequence(line: ReadLine, tokenizer: Tokenizer): Sequence {
  const tokens = Int32Array.from(readTokens(line, tokenizer));
  return { tokens, trained: new Uint8Array(tokens.length).fill(1) };
}

/** Cut from the end, as `transformers` cuts: what the tokenizer puts after a text (`[SEP]`) stays. */
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

/** Values: the place of the label; where a line may have several, 1 or 0 for each label there is. */
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

/** The number itself. */
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
