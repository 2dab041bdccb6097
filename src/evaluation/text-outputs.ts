// Outputs of a fine-tuned head for the lines of a validation file. Metrics are computed elsewhere.
import { createReadStream } from 'node:fs';
import { contentText } from '../data/conversation.ts';
import { readLines } from '../data/jsonl.ts';
import { type ReadLine, readTokens, truncateRead } from '../data/labelled.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { type OutputMeaning, sameOutputs } from '../formats/classifier-config.ts';
import { ModelError } from '../models/model-error.ts';
import { type FineTuned, openFineTuned } from '../serving/classifier.ts';
import type { Evaluation } from './evaluation.ts';

export interface ToldFile<Line> {
  /** Lines of the file. */
  readonly lines: number;
  /** Of them, evenly spread, at most MAX_EXAMPLES. */
  readonly chosen: readonly Line[];
  /** Outputs for each of these. */
  readonly fineTuned: readonly Float32Array[];
  /** Outputs of the model that training started from; null if it has no head for the same outputs. */
  readonly base: readonly Float32Array[] | null;
}

const MAX_EXAMPLES = 10_000;
/** Texts that are queued at the same time. */
const WINDOW = 256;
export const SHOWN_EXAMPLES = 8;
const SHOWN_LENGTH = 2000;

export async function tellFile<Line extends ReadLine>(evaluation: Evaluation): Promise<ToldFile<Line>> {
  const { engine, modelDirectory, adapterDirectory, fineTuned: tuned } = evaluation;
  const folders =
    tuned.kind === 'full'
      ? { modelDirectory: tuned.directory, adapterDirectory: null }
      : { modelDirectory, adapterDirectory: tuned.directory };
  const { lines, chosen } = await chooseLines<Line>(evaluation.validationFile);
  const texts = await readTexts(chosen, evaluation);
  const opened = await openFineTuned(engine, folders);
  const fineTuned = await tellTexts(texts, opened, evaluation.signal);
  const former = await openFormer(evaluation, { modelDirectory, adapterDirectory }, opened.head.meaning);
  return { lines, chosen, fineTuned, base: former && (await tellTexts(texts, former, evaluation.signal)) };
}

/** Tokens of each line, truncated as in training. */
async function readTexts(lines: readonly ReadLine[], { modelDirectory, maxLength }: Evaluation) {
  const tokenizer = await loadTokenizer(modelDirectory);
  return lines.map(line => {
    const whole = Int32Array.from(readTokens(line, tokenizer));
    const sequence = { tokens: whole, trained: new Uint8Array(whole.length) };
    return [...truncateRead(sequence, maxLength, tokenizer).tokens];
  });
}

/** Null for a model without a head for these outputs. */
async function openFormer(
  { engine }: Evaluation,
  folders: { modelDirectory: string; adapterDirectory: string | null },
  meaning: OutputMeaning,
): Promise<FineTuned | null> {
  try {
    const former = await openFineTuned(engine, folders);
    if (sameOutputs(former.head.meaning, meaning)) return former;
    await former.classifier.close();
    return null;
  } catch (error) {
    if (error instanceof ModelError) return null;
    throw error;
  }
}

/** Closes the model. */
async function tellTexts(
  texts: readonly number[][],
  { classifier, head }: FineTuned,
  signal: AbortSignal,
): Promise<Float32Array[]> {
  try {
    const outputs: Float32Array[] = [];
    for (let start = 0; start < texts.length; start += WINDOW) {
      const window = texts.slice(start, start + WINDOW);
      outputs.push(
        ...(await Promise.all(window.map(tokens => classifier.outputs({ tokens, head, signal })))),
      );
    }
    return outputs;
  } finally {
    await classifier.close();
  }
}

async function chooseLines<Line>(file: string): Promise<{ lines: number; chosen: Line[] }> {
  let lines = 0;
  for await (const _ of readLines(createReadStream(file))) lines += 1;
  const every = Math.max(1, lines / MAX_EXAMPLES);
  const chosen: Line[] = [];
  let index = 0;
  for await (const line of readLines(createReadStream(file))) {
    if ('text' in line && index >= chosen.length * every) chosen.push(JSON.parse(line.text));
    index += 1;
  }
  return { lines, chosen };
}

/** At most `count` elements, evenly spread. */
export const spread = <T>(items: readonly T[], count: number): T[] => {
  const taken = Math.min(items.length, count);
  return Array.from({ length: taken }, (_, i) => items[Math.floor((i * items.length) / taken)]!);
};

/** Text of a line, for display. */
export const shownText = (line: ReadLine): string =>
  ('input' in line ? line.input : contentText(line.messages.at(-1)?.content)).slice(0, SHOWN_LENGTH);
