// What a training or validation file holds, line by line, as a run would take it: wrong lines, tokens, repeated examples,
// answers, a few examples token by token. It reads with the code of the real run, and writes nothing.
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
/** Of a longer sample the rest is left out. */
const SAMPLE_TOKENS = 4096;

export interface Sample {
  /** 1-based. */
  line: number;
  /** Tokens of the whole example, one sequence after the other; `tokens` holds the first SAMPLE_TOKENS. */
  length: number;
  tokens: { id: number; text: string; trained: boolean }[];
}

export interface ControlTokens {
  /** Beginnings of a text; null where the model has none. */
  bosId: number | null;
  bosTokens: number;
  /** Examples with more than one: usually a template and a tokenizer that both write it. */
  examplesWithSeveralBos: number;
  eosIds: readonly number[];
  eosTokens: number;
  trainedEosTokens: number;
  /** Examples that do not teach the model to stop. */
  examplesWithoutTrainedEos: number;
}

export interface Duplicates {
  /** Lines that repeat an earlier one. */
  count: number;
  /** The lines that are the same, first ones first; at most KEPT_DUPLICATES groups. */
  groups: number[][];
}

export interface Survey {
  validation: ValidationReport;
  counts: DatasetCounts;
  /** Right lines that the chat template refuses, at most KEPT_LINES; `refused` counts them all. */
  refusals: { line: number; message: string }[];
  refused: number;
  longest: number;
  /** How much of a row each example takes. */
  lengths: Uint32Array;
  control: ControlTokens;
  duplicates: Duplicates;
  /** How often each answer is given, most frequent first; null for more than `mostAnswers`. */
  answers: { answer: string; count: number }[] | null;
  samples: Sample[];
  /** Digest of the tokens of each line -> the first line that has them. */
  digests: ReadonlyMap<string, number>;
}

export interface SurveyOptions extends Taking {
  file: string;
  kind: FileKind;
  method: Method;
  settings?: ValidationOptions['settings'];
  /** Of the training file, for the file that a run is measured on. */
  training?: Survey | null;
  mostAnswers: number;
}

/** Reads the file twice: as validation does, then, without the lines that it found wrong, as tokenizing does. */
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
  // A model whose texts begin with its end token has one for each answer, too.
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

// ---- repeated lines

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

/** Equal for lines that are the same tokens with the same of them learnt, and the same values. */
function digestOf(examples: readonly Example[]): string {
  const digest = createHash('sha256');
  for (const { sequences, values } of examples) {
    for (const { tokens, trained } of sequences)
      digest.update(`${tokens.length}\n`).update(tokens).update(trained);
    digest.update(Float64Array.from(values));
  }
  return digest.digest('base64').slice(0, 22);
}

/** Lines of `later` whose tokens `earlier` has, too: [line of the first, line of the second]. */
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
