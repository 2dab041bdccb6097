// A row of the training benchmark: a model shape, its task, a length, and the masked share of each example. All
// contenders get the same batches.
import type { Example } from '../src/data/example-form.ts';
import { type Model, requireEncoderDecoder } from '../src/models/registry.ts';
import { answering } from '../src/training/objectives/answering.ts';
import { classification } from '../src/training/objectives/classification.ts';
import { generation } from '../src/training/objectives/generation.ts';
import type { Objective } from '../src/training/objectives/objective.ts';
import { openHead } from '../src/training/objectives/text-outputs.ts';
import type { ShapeName } from './train-model.ts';

export interface Row {
  readonly shape: ShapeName;
  /** Rows of a micro-batch, one example each, and tokens of an example. */
  readonly rows: number;
  readonly length: number;
  /** Share of an example's tokens that is prompt: read, but not trained on. */
  readonly masked: number;
}

export type Task = 'generation' | 'classification' | 'answering';

export const TASKS: Record<ShapeName, Task> = {
  'gpt2-124m': 'generation',
  'llama-160m': 'generation',
  'llama-tiny': 'generation',
  'llama-1b': 'generation',
  'bert-base': 'classification',
  't5-small': 'answering',
};

/** Length of an answer, as a fraction of its source. */
export const ANSWER_SHARE = 0.25;

/** Tokens of an example, answers included. */
export const tokensOf = ({ shape, length }: Row): number =>
  TASKS[shape] === 'answering' ? length * (1 + ANSWER_SHARE) : length;

const row = (shape: ShapeName, length: number, masked = 0): Omit<Row, 'rows'> => ({ shape, length, masked });

const causal = (shape: ShapeName) =>
  [512, 128, 2048].flatMap(length => [row(shape, length), row(shape, length, 0.75)]);

/** BERT has 512 positions. Masking applies to generation only. The tiny shape runs only when asked for. */
const ROWS = [
  row('llama-tiny', 128),
  ...causal('gpt2-124m'),
  ...causal('llama-160m'),
  row('bert-base', 512),
  row('bert-base', 128),
  row('t5-small', 512),
  row('t5-small', 128),
  ...causal('llama-1b'),
];

/** Each row with as many examples per micro-batch as have about this many tokens together, at least one. */
export const rowsOf = (tokens: number): Row[] =>
  ROWS.map(row => ({ ...row, rows: Math.max(1, Math.floor(tokens / row.length)) }));

/** A deterministic walk over the vocabulary. */
const walk = (count: number, first: number, vocab: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => 3 + (((first + i) * 7919) % (vocab - 3)));

const learnt = (count: number, from: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => Number(i >= from));

export function examplesOf({ shape, rows, length, masked }: Row, vocab: number): Example[] {
  return Array.from({ length: rows }, (_, index) => {
    const tokens = walk(length, index * length, vocab);
    const text = { tokens, trained: learnt(length, Math.round(masked * length)) };
    if (TASKS[shape] === 'generation') return { sequences: [text], values: [] };
    if (TASKS[shape] === 'classification') return { sequences: [text], values: [index % 2] };
    const answer = walk(length * ANSWER_SHARE, 31, vocab);
    return { sequences: [text, { tokens: answer, trained: learnt(answer.length, 1) }], values: [] };
  });
}

const TWO_CLASSES = { problem: 'single_label_classification', labels: ['no', 'yes'] } as const;

export async function objectiveOf(shape: ShapeName, model: Model): Promise<Objective> {
  const task = TASKS[shape];
  if (task === 'generation') return generation(model);
  if (task === 'answering')
    return answering(requireEncoderDecoder(model), { source: 1, answer: ANSWER_SHARE });
  const outputs = await openHead({ model, adapter: null, adapterDirectory: null }, TWO_CLASSES as never);
  const set = { multiple: false, labels: ['no', 'yes'], lines: 2, counts: new Map() };
  return classification(outputs, set as never, null);
}
