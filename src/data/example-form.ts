// Interface between training methods and datasets: how a method turns lines of a file into token sequences and values. Reading files
// and packing are elsewhere.
import type { Tokenizer } from './tokenizer.ts';

export interface Sequence {
  readonly tokens: Int32Array;
  /**
   * 1 for tokens in the loss: the targets of generation, or all tokens for methods that read whole texts. The first token is never a
   * target of generation, since nothing precedes it.
   */
  readonly trained: Uint8Array;
}

export interface Example {
  readonly sequences: readonly Sequence[];
  /** Non-token targets: a class, a number. */
  readonly values: ArrayLike<number>;
}

/** All examples of a dataset have the same number of sequences and of values. */
export interface ExampleForm {
  /** Part of the cache key of tokenized files: identifies everything besides the tokenizer that affects the examples. */
  readonly identity: string;
  readonly sequences: number;
  readonly values: number;
  /** The last sequence is generated text, so it must train an end token. */
  readonly generates: boolean;
  /** Expects a line that has passed validation. Throws TemplateError if the chat template rejects it. */
  examples(line: unknown, tokenizer: Tokenizer): Example[];
  /** Whether a truncated example still has a training target; default: if any of its tokens is trained. */
  teaches?(example: Example): boolean;
  /** The two sequences are compared answers; without a difference there is no gradient. Default: false. */
  readonly compares?: boolean;
  /** The answer that a line trains, as text; null if it has none. */
  answer(line: unknown): string | null;
  /** Truncates to at most `maxLength` tokens; default: drops tokens from the end. */
  truncate?(sequence: Sequence, maxLength: number, tokenizer: Tokenizer): Sequence;
  /** Length of an example in a packed row, from the lengths of its sequences; default: their sum. */
  rowLength?(lengths: readonly number[]): number;
}

/** Drops tokens from the end; returns the sequence itself if it is short enough. */
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

/** `lengths`: of the sequences of one example. */
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
