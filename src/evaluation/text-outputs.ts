// What a fine-tuned head says of the lines of a validation file. What its outputs are worth is for the metrics.
import { createReadStream } from 'node:fs';
import { contentText } from '../data/conversation.ts';
import { readLines } from '../data/jsonl.ts';
import { type ReadLine, readTokens, truncateRead } from '../data/labelled.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { openFineTuned } from '../serving/classifier.ts';
import type { Evaluation } from './evaluation.ts';

export interface Told<Line> {
  readonly line: Line;
  readonly outputs: Float32Array;
}

export interface ToldFile<Line> {
  /** Lines of the file. */
  readonly lines: number;
  /** Evenly spread over the file, at most MAX_EXAMPLES. */
  readonly told: readonly Told<Line>[];
}

const MAX_EXAMPLES = 10_000;
/** Texts that wait at once. */
const WINDOW = 256;
export const SHOWN_EXAMPLES = 8;
const SHOWN_LENGTH = 2000;

export async function tellFile<Line extends ReadLine>(evaluation: Evaluation): Promise<ToldFile<Line>> {
  const { engine, modelDirectory, fineTuned, validationFile, maxLength, signal } = evaluation;
  const folders =
    fineTuned.kind === 'full'
      ? { modelDirectory: fineTuned.directory, adapterDirectory: null }
      : { modelDirectory, adapterDirectory: fineTuned.directory };
  const tokenizer = await loadTokenizer(modelDirectory);
  const { lines, chosen } = await chooseLines<Line>(validationFile);
  const { classifier, head } = await openFineTuned(engine, folders);
  const tell = async (line: Line): Promise<Told<Line>> => {
    const whole = Int32Array.from(readTokens(line, tokenizer));
    const sequence = { tokens: whole, trained: new Uint8Array(whole.length) };
    const { tokens } = truncateRead(sequence, maxLength, tokenizer);
    return { line, outputs: await classifier.outputs({ tokens: [...tokens], head, signal }) };
  };
  try {
    const told: Told<Line>[] = [];
    for (let start = 0; start < chosen.length; start += WINDOW)
      told.push(...(await Promise.all(chosen.slice(start, start + WINDOW).map(tell))));
    return { lines, told };
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

/** At most `count` of them, evenly spread. */
export const spread = <T>(items: readonly T[], count: number): T[] => {
  const taken = Math.min(items.length, count);
  return Array.from({ length: taken }, (_, i) => items[Math.floor((i * items.length) / taken)]!);
};

/** The text of a line, for people. */
export const shownText = (line: ReadLine): string =>
  ('input' in line ? line.input : contentText(line.messages.at(-1)?.content)).slice(0, SHOWN_LENGTH);
