// What a line of a file becomes before it is trained on: token sequences and numbers. Which, says the method's own form;
// reading files and packing are not here.
import type { Tokenizer } from './tokenizer.ts';

export interface Sequence {
  readonly tokens: Int32Array;
  /**
   * 1 where the token counts: where generation learns it, or, for methods that learn from the whole text, everywhere.
   * Generation never learns the first token: nothing comes before it.
   */
  readonly trained: Uint8Array;
}

export interface Example {
  readonly sequences: readonly Sequence[];
  /** Targets that are no tokens: a class, a number. */
  readonly values: ArrayLike<number>;
}

/** Every example of a dataset has as many sequences and values. */
export interface ExampleForm {
  /** Names all that decides what a line becomes, besides the tokenizer: files of tokens are kept under it. */
  readonly identity: string;
  readonly sequences: number;
  readonly values: number;
  /** The last sequence is generated: it must teach the model to stop. */
  readonly generates: boolean;
  /** Of a line that validation has accepted. Throws TemplateError when the chat template refuses it. */
  examples(line: unknown, tokenizer: Tokenizer): Example[];
  /** Whether an example that was cut still teaches what it is there for; absent: when a token of it counts. */
  teaches?(example: Example): boolean;
  /** Its two sequences are answers that are compared: where they are the same, an example teaches nothing. Absent: no. */
  readonly compares?: boolean;
  /** What a line has the model answer, in words; null where it has no words. */
  answer(line: unknown): string | null;
  /** A sequence of at most `maxLength` tokens; absent: the tokens after those are left out. */
  truncate?(sequence: Sequence, maxLength: number, tokenizer: Tokenizer): Sequence;
  /** How much of a row an example takes, by the lengths of its sequences; absent: they lie one after the other. */
  rowLength?(lengths: readonly number[]): number;
}

/** Cuts from the end; the sequence itself when it is short enough. */
export function truncateSequence(sequence: Sequence, maxLength: number): Sequence {
  if (sequence.tokens.length <= maxLength) return sequence;
  return { tokens: sequence.tokens.subarray(0, maxLength), trained: sequence.trained.subarray(0, maxLength) };
}

export function countTrained(sequence: Sequence): number {
  let count = 0;
  for (const flag of sequence.trained) count += flag;
  return count;
}

const sumOver = (example: Example, count: (sequence: Sequence) => number): number =>
  example.sequences.reduce((sum, sequence) => sum + count(sequence), 0);

export const sumOf = (lengths: readonly number[]): number =>
  lengths.reduce((total, length) => total + length, 0);

/** `lengths` are those of an example's sequences. */
export const rowLengthOf = (form: Pick<ExampleForm, 'rowLength'>, lengths: readonly number[]): number =>
  (form.rowLength ?? sumOf)(lengths);

export const rowLengths = (form: Pick<ExampleForm, 'rowLength'>, examples: readonly Example[]): number[] =>
  examples.map(({ sequences }) =>
    rowLengthOf(
      form,
      sequences.map(({ tokens }) => tokens.length),
    ),
  );

export const tokensOf = (example: Example): number => sumOver(example, ({ tokens }) => tokens.length);

export const trainedTokensOf = (example: Example): number => sumOver(example, countTrained);
