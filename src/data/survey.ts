// Statistics of a training or validation file for a dry run: invalid lines, tokens, duplicates, answers and a few tokenized examples.
// Uses the code of real runs; writes nothing.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  type DatasetCounts,
  DatasetError,
  examplesOf,
  noExamples,
  type Taking,
  takeExample,
} from './dataset.ts';
import { type Example, rowLengths, tokensOf } from './example-form.ts';
import { readLines } from './jsonl.ts';
import type { Tokenizer } from './tokenizer.ts';
import {
  type FileKind,
  fitsMethod,
  type Method,
  type ValidationOptions,
  type ValidationReport,
  validateTrainingFile,
} from './validate.ts';

const KEPT_LINES = 10_000;
const KEPT_DUPLICATES = 100;
const SAMPLES = 3;
/** Longer samples are truncated. */
const SAMPLE_TOKENS = 4096;

export interface Sample {
  /** 1-based. */
  line: number;
  /** Tokens of the whole example, its sequences concatenated; `tokens` has the first SAMPLE_TOKENS. */
  length: number;
  tokens: { id: number; text: string; trained: boolean }[];
}

export interface ControlTokens {
  /** BOS; null if the model has none. */
  bosId: number | null;
  bosTokens: number;
  /** Examples with more than one BOS: usually both the template and the tokenizer add one. */
  examplesWithSeveralBos: number;
  eosIds: readonly number[];
  eosTokens: number;
  trainedEosTokens: number;
  /** Examples without a trained end token: the model would not learn to stop. */
  examplesWithoutTrainedEos: number;
}

export interface Duplicates {
  /** Lines that duplicate an earlier one. */
  count: number;
  /** Line numbers of duplicates, the first occurrence first; at most KEPT_DUPLICATES groups. */
  groups: number[][];
}

export interface Survey {
  validation: ValidationReport;
  counts: DatasetCounts;
  /** Valid lines that the chat template rejects, at most KEPT_LINES; `refused` counts all. */
  refusals: { line: number; message: string }[];
  refused: number;
  longest: number;
  /** Length of each example in a packed row. */
  lengths: Uint32Array;
  control: ControlTokens;
  duplicates: Duplicates;
  /** Count of each answer, most frequent first; null if there are more than `mostAnswers`. */
  answers: { answer: string; count: number }[] | null;
  samples: Sample[];
  /** Digest of a line's tokens -> the first line with it. */
  digests: ReadonlyMap<string, number>;
}

export interface SurveyOptions extends Taking {
  file: string;
  kind: FileKind;
  method: Method;
  settings?: ValidationOptions['settings'];
  /** The survey of the training file, for a validation file. */
  training?: Survey | null;
  mostAnswers: number;
}

/** Reads the file twice: first validates it, then tokenizes its valid lines. */
export async function surveyFile(options: SurveyOptions): Promise<Survey> {
  const { file, kind, method, settings } = options;
  const bad = new Set<number>();
  const validation = await validateTrainingFile(createReadStream(file, { highWaterMark: 1 << 20 }), {
    kind,
    method,
    settings,
    training: options.training?.validation ?? null,
    keptLines: KEPT_LINES,
    onBadLine: line => bad.add(line),
  });
  const tally = openTally(options);
  if (fitsMethod(validation)) {
    for await (const { number, line } of goodLines(file, bad)) tally.add(number, line);
  }
  return tally.close(validation);
}

async function* goodLines(file: string, bad: ReadonlySet<number>) {
  for await (const line of readLines(createReadStream(file, { highWaterMark: 1 << 20 }))) {
    if ('problem' in line || bad.has(line.number)) continue;
    yield { number: line.number, line: JSON.parse(line.text) as unknown };
  }
}

interface Tally {
  add(number: number, line: unknown): void;
  close(validation: ValidationReport): Survey;
}

function openTally(options: SurveyOptions): Tally {
  const { form, tokenizer, mostAnswers } = options;
  const counts = noExamples(form);
  const control = noControlTokens(tokenizer);
  const repeated = openRepeated();
  const answers = openAnswers(mostAnswers);
  const samples: Sample[] = [];
  const refusals: Survey['refusals'] = [];
  let refused = 0;
  let longest = 0;
  const lengths: number[] = [];

  const take = (number: number, whole: Example) => {
    const example = takeExample(whole, number, options, counts);
    if (example === null) return;
    longest = Math.max(longest, tokensOf(example));
    lengths.push(...rowLengths(form, [example]));
    countControlTokens(control, example, form.generates);
    if (samples.length < SAMPLES) samples.push(sampleOf(number, example, tokenizer));
  };
  return {
    add(number, line) {
      counts.lines += 1;
      const examples = examplesOrRefusal(line, number, options);
      if (examples instanceof DatasetError) {
        refused += 1;
        if (refusals.length < KEPT_LINES) refusals.push({ line: number, message: examples.message });
        return;
      }
      repeated.add(number, examples);
      answers.add(form.answer(line));
      for (const whole of examples) take(number, whole);
    },
    close: validation => ({
      validation,
      refusals,
      refused,
      counts,
      longest,
      lengths: Uint32Array.from(lengths),
      control,
      duplicates: repeated.duplicates(),
      digests: repeated.digests,
      answers: answers.close(),
      samples,
    }),
  };
}

function examplesOrRefusal(line: unknown, number: number, taking: Taking): Example[] | DatasetError {
  try {
    return examplesOf(line, number, taking);
  } catch (error) {
    if (error instanceof DatasetError) return error;
    throw error;
  }
}

// ---- tokens

const noControlTokens = ({ bosId, eosIds }: Tokenizer): ControlTokens => ({
  bosId,
  bosTokens: 0,
  examplesWithSeveralBos: 0,
  eosIds,
  eosTokens: 0,
  trainedEosTokens: 0,
  examplesWithoutTrainedEos: 0,
});

function countControlTokens(control: ControlTokens, { sequences }: Example, generates: boolean): void {
  let bosMost = 0;
  let trainedEos = 0;
  for (const { tokens, trained } of sequences) {
    let bos = 0;
    tokens.forEach((token, i) => {
      if (token === control.bosId) bos += 1;
      if (!control.eosIds.includes(token)) return;
      control.eosTokens += 1;
      trainedEos += trained[i]!;
    });
    control.bosTokens += bos;
    bosMost = Math.max(bosMost, bos);
  }
  control.trainedEosTokens += trainedEos;
  // If BOS is an end token too, every answer has one, so several are normal.
  const severalBos = bosMost > 1 && !control.eosIds.includes(control.bosId!);
  if (severalBos) control.examplesWithSeveralBos += 1;
  if (generates && trainedEos === 0) control.examplesWithoutTrainedEos += 1;
}

function sampleOf(line: number, example: Example, tokenizer: Tokenizer): Sample {
  const whole = example.sequences.flatMap(({ tokens, trained }) =>
    Array.from(tokens, (id, i) => ({ id, trained: trained[i] === 1 })),
  );
  const shown = whole.slice(0, SAMPLE_TOKENS).map(({ id, trained }) => ({
    id,
    text: Buffer.from(tokenizer.tokenBytes(id)).toString('utf8'),
    trained,
  }));
  return { line, length: whole.length, tokens: shown };
}

// ---- duplicate lines

function openRepeated() {
  const digests = new Map<string, number>();
  const later = new Map<number, number[]>();
  let count = 0;
  return {
    digests,
    add(number: number, examples: readonly Example[]): void {
      const digest = digestOf(examples);
      const first = digests.get(digest);
      if (first === undefined) {
        digests.set(digest, number);
        return;
      }
      count += 1;
      const group = later.get(first);
      if (group) group.push(number);
      else if (later.size < KEPT_DUPLICATES) later.set(first, [first, number]);
    },
    duplicates: (): Duplicates => ({ count, groups: [...later.values()] }),
  };
}

/** Equal for lines with the same tokens, loss mask and values. */
function digestOf(examples: readonly Example[]): string {
  const digest = createHash('sha256');
  for (const { sequences, values } of examples) {
    for (const { tokens, trained } of sequences)
      digest.update(`${tokens.length}\n`).update(tokens).update(trained);
    digest.update(Float64Array.from(values));
  }
  return digest.digest('base64').slice(0, 22);
}

/** Lines of `later` with the same tokens as a line of `earlier`, as pairs of line numbers: [in `earlier`, in `later`]. */
export function duplicatesBetween(earlier: Survey, later: Survey): Duplicates {
  const pairs = [...later.digests].flatMap(([digest, line]) => {
    const first = earlier.digests.get(digest);
    return first === undefined ? [] : [[first, line]];
  });
  return { count: pairs.length, groups: pairs.slice(0, KEPT_DUPLICATES) };
}

// ---- answers

function openAnswers(most: number) {
  const counts = new Map<string, number>();
  return {
    add(answer: string | null): void {
      if (answer === null || counts.size > most) return;
      const label = answer.trim();
      counts.set(label, (counts.get(label) ?? 0) + 1);
    },
    close(): Survey['answers'] {
      if (counts.size > most) return null;
      const entries = [...counts].map(([answer, count]) => ({ answer, count }));
      return entries.sort((a, b) => b.count - a.count || (a.answer < b.answer ? -1 : 1));
    },
  };
}
