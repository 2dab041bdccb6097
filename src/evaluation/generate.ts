// Evaluates a fine-tuned model in comparison with its base: both answer the prompts of a validation file with greedy decoding.
// Reads model folders and returns metrics; writes nothing.
//
// The report (`evaluation.json`):
//   validation_examples  lines of the file; evaluated_examples  of them, evenly spread; skipped_examples  of the chosen ones,
//     without a text answer or too long for the model
//   max_tokens  limit of an answer: 1.5 times the longest reference, at most 256
//   labels  the distinct answers if they are a small set; null for free text
//   base, fine_tuned  each: loss (mean over the trained tokens), token_accuracy, exact_match, rouge_l (all three 0..1), bleu (0..100),
//     unfinished (answers that reached the limit), classification (accuracy, macro_*, per_class, confusion_matrix; null for free text)
//   examples  a few: prompt (the last question), reference, base, fine_tuned
import { createReadStream } from 'node:fs';
import { answerForm, answerPrompt } from '../data/answers.ts';
import { contentText, isChatLine, type TrainingLine } from '../data/conversation.ts';
import type { Sequence } from '../data/example-form.ts';
import { type EvaluationPrompt, evaluationPrompt, makeSequences } from '../data/examples.ts';
import { readLines } from '../data/jsonl.ts';
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.ts';
import type { Engine } from '../engine/program.ts';
import { answerRules } from '../models/answer-rules.ts';
import { type Model, openModel, requireGenerative } from '../models/registry.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { loadAdapter } from '../serving/adapters.ts';
import { Generator } from '../serving/generator.ts';
import { rehearse } from '../serving/rehearsal.ts';
import { GREEDY } from '../serving/sampling.ts';
import { bleu } from './bleu.ts';
import { type ClassificationReport, classify, findLabels } from './classification.ts';
import type { Evaluation, EvaluationRehearsal } from './evaluation.ts';
import { exactMatch } from './exact-match.ts';
import { rougeL } from './rouge-l.ts';

export interface EvaluationRequest {
  engine: Engine;
  /** Folder of the base model. */
  modelDirectory: string;
  /** The result of training: a PEFT folder, or the folder of a full model. */
  fineTuned: { kind: 'adapter' | 'full'; directory: string };
  /** JSONL that has passed validation. */
  validationFile: string;
  /** Default 100. */
  maxExamples?: number;
  /** Extracts the conversation to evaluate from a line; default: the line itself. */
  readLine?(line: unknown): TrainingLine;
  signal?: AbortSignal;
  /** After every answer; `total` counts both models. */
  onProgress?(done: number, total: number): void;
}

export interface ModelReport {
  loss: number;
  token_accuracy: number;
  exact_match: number;
  rouge_l: number;
  bleu: number;
  unfinished: number;
  classification: ClassificationReport | null;
}

export interface EvaluationReport {
  validation_examples: number;
  evaluated_examples: number;
  skipped_examples: number;
  max_tokens: number;
  labels: string[] | null;
  base: ModelReport;
  fine_tuned: ModelReport;
  examples: { prompt: string; reference: string; base: string; fine_tuned: string }[];
}

interface Question {
  /** The last message, for display. */
  shown: string;
  prompt: Int32Array;
  reference: string;
  /** The line as in training, for the loss. */
  lessons: Lesson[];
}

interface Lesson extends Sequence {
  /** Target tokens of an encoder-decoder; null for other models. */
  source: Int32Array | null;
}

/** How lines are tokenized for a kind of model. */
interface Reader {
  prompt(line: TrainingLine, tokenizer: Tokenizer): EvaluationPrompt | null;
  lessons(line: TrainingLine, tokenizer: Tokenizer): Lesson[];
}

const CONTINUES: Reader = {
  prompt: evaluationPrompt,
  lessons: (line, tokenizer) =>
    makeSequences(line, tokenizer).map(sequence => ({ ...sequence, source: null })),
};

function answersFrom(model: Model): Reader {
  const form = answerForm(answerRules(model).start, { source: 1, answer: 1 });
  return {
    prompt: answerPrompt,
    lessons: (line, tokenizer) =>
      form
        .examples(line, tokenizer)
        .map(({ sequences: [source, answer] }) => ({ ...answer!, source: source!.tokens })),
  };
}

interface Answers {
  texts: string[];
  unfinished: number;
  loss: number;
  tokenAccuracy: number;
}

const MAX_EXAMPLES = 100;
const MAX_TOKENS = 256;
const SHOWN_EXAMPLES = 8;
const SHOWN_LENGTH = 2000;

/** Evaluation of objectives that train text generation. */
export const byGeneration = (lines: Pick<EvaluationRequest, 'readLine'> = {}) => ({
  async evaluate(evaluation: Evaluation): Promise<Record<string, unknown> | null> {
    const report = await evaluateByGeneration({ ...evaluation, ...lines });
    return report && { ...report };
  },
  rehearse: (rehearsal: EvaluationRehearsal) => rehearseGeneration({ ...rehearsal, ...lines }),
});

/** Allocates the peak memory of `evaluateByGeneration`, then frees it. */
async function rehearseGeneration(
  request: EvaluationRehearsal & Pick<EvaluationRequest, 'readLine'>,
): Promise<void> {
  const { engine, adapter } = request;
  const model = requireGenerative(await openModel(request.modelDirectory));
  const tokenizer = await loadTokenizer(request.modelDirectory);
  const { questions } = await readQuestions(request, model, tokenizer);
  if (questions.length === 0) return;
  const lessons = questions.flatMap(question => question.lessons);
  const asked = {
    prompts: questions.map(({ prompt }) => prompt.length),
    answer: answerLimit(questions, tokenizer),
    scored: {
      source: Math.max(...lessons.map(({ source }) => source?.length ?? 0)),
      tokens: Math.max(...lessons.map(({ tokens }) => tokens.length)),
    },
  };
  const closing = await rehearse(engine, model, { ...asked, adapters: adapter ? [null, adapter] : [null] });
  // After full fine-tuning, two models are loaded at the same time.
  const closingFull = adapter ? null : await rehearse(engine, model, { ...asked, adapters: [null] });
  await closing();
  await closingFull?.();
}

/** Null when no line of the file can be used. */
export async function evaluateByGeneration(request: EvaluationRequest): Promise<EvaluationReport | null> {
  const model = await openModel(request.modelDirectory);
  const tokenizer = await loadTokenizer(request.modelDirectory);
  const { questions, lines, chosen } = await readQuestions(request, model, tokenizer);
  if (questions.length === 0) return null;
  const maxTokens = answerLimit(questions, tokenizer);
  let done = 0;
  const onAnswer = (): void => request.onProgress?.(++done, 2 * questions.length);
  const ask = { questions, tokenizer, maxTokens, signal: request.signal, onAnswer };
  const [base, fineTuned] = await answerByBoth(request, model, ask);
  const labels = findLabels(questions.map(({ reference }) => reference));
  return {
    validation_examples: lines,
    evaluated_examples: questions.length,
    skipped_examples: chosen - questions.length,
    max_tokens: maxTokens,
    labels,
    base: report(base, questions, labels),
    fine_tuned: report(fineTuned, questions, labels),
    examples: spread(questions.length, SHOWN_EXAMPLES).map(i => ({
      prompt: questions[i]!.shown,
      reference: questions[i]!.reference,
      base: base.texts[i]!,
      fine_tuned: fineTuned.texts[i]!,
    })),
  };
}

/** At most `count` indices of 0 .. total - 1, evenly spread. */
function spread(total: number, count: number): number[] {
  const taken = Math.min(total, count);
  return Array.from({ length: taken }, (_, i) => Math.floor((i * total) / taken));
}

/** Lines from all over the file, since files are often sorted by answer. */
async function readQuestions(
  {
    validationFile,
    maxExamples = MAX_EXAMPLES,
    readLine = line => line as TrainingLine,
  }: Pick<EvaluationRequest, 'validationFile' | 'maxExamples' | 'readLine'>,
  model: Model,
  tokenizer: Tokenizer,
): Promise<{ questions: Question[]; lines: number; chosen: number }> {
  let lines = 0;
  for await (const _ of readLines(createReadStream(validationFile))) lines += 1;
  const chosen = new Set(spread(lines, maxExamples));
  const questions: Question[] = [];
  let index = 0;
  for await (const line of readLines(createReadStream(validationFile))) {
    if (chosen.has(index++) && 'text' in line) {
      const question = toQuestion(readLine(JSON.parse(line.text)), model, tokenizer);
      if (question) questions.push(question);
    }
  }
  return { questions, lines, chosen: chosen.size };
}

function toQuestion(line: TrainingLine, model: Model, tokenizer: Tokenizer): Question | null {
  const reader = model.kind === 'encoder-decoder' ? answersFrom(model) : CONTINUES;
  const prompt = reader.prompt(line, tokenizer);
  if (!prompt) return null;
  const lessons = reader.lessons(line, tokenizer);
  const longest = Math.max(
    prompt.tokens.length + 1,
    ...lessons.flatMap(({ tokens, source }) => [tokens.length, source?.length ?? 0]),
  );
  if (prompt.tokens.length === 0 || longest > model.shape.maxPositions) return null;
  return { shown: lastSaid(line), prompt: prompt.tokens, reference: prompt.reference, lessons };
}

function lastSaid(line: TrainingLine): string {
  if (!isChatLine(line)) return line.prompt.slice(-SHOWN_LENGTH);
  const answer = line.messages.findLastIndex(({ role }) => role === 'assistant');
  return contentText(line.messages[answer - 1]?.content).slice(0, SHOWN_LENGTH);
}

function answerLimit(questions: readonly Question[], tokenizer: Tokenizer): number {
  const longest = Math.max(...questions.map(({ reference }) => tokenizer.encode(reference).length));
  return Math.min(MAX_TOKENS, Math.ceil(1.5 * longest) + 2);
}

interface Ask {
  questions: readonly Question[];
  tokenizer: Tokenizer;
  maxTokens: number;
  signal?: AbortSignal;
  onAnswer(): void;
}

async function answerByBoth(
  { engine, fineTuned }: EvaluationRequest,
  model: Model,
  ask: Ask,
): Promise<[base: Answers, fineTuned: Answers]> {
  const base = new Generator(engine, model);
  try {
    const ofBase = await answer(base, null, ask);
    if (fineTuned.kind === 'adapter') {
      const adapter = await loadAdapter(model, 'fine-tuned', fineTuned.directory);
      return [ofBase, await answer(base, adapter, ask)];
    }
    const full = new Generator(engine, await openModel(fineTuned.directory));
    return [ofBase, await answer(full, null, ask).finally(() => full.close())];
  } finally {
    await base.close();
  }
}

async function answer(generator: Generator, adapter: LoadedAdapter | null, ask: Ask): Promise<Answers> {
  const answers = await Promise.all(
    ask.questions.map(async ({ prompt }) => {
      const tokens: number[] = [];
      const { finishReason } = await generator.generate({
        prompt,
        adapter,
        maxTokens: ask.maxTokens,
        sampling: GREEDY,
        choice: 0,
        stopTokens: ask.tokenizer.eosIds,
        topLogprobs: null,
        signal: ask.signal,
        onToken(token) {
          tokens.push(token);
          return false;
        },
      });
      ask.onAnswer();
      return { text: ask.tokenizer.decode(tokens), finishReason };
    }),
  );
  return {
    texts: answers.map(({ text }) => text),
    unfinished: answers.filter(({ finishReason }) => finishReason === 'length').length,
    ...(await readLessons(generator, adapter, ask)),
  };
}

/** Loss and accuracy of the trained tokens with teacher forcing. */
async function readLessons(generator: Generator, adapter: LoadedAdapter | null, ask: Ask) {
  const lessons = ask.questions.flatMap(question => question.lessons);
  let [loss, correct, count] = [0, 0, 0];
  for (const { source, tokens, trained } of lessons) {
    const scores = await generator.score({ source, tokens, adapter, topLogprobs: 1, signal: ask.signal });
    scores.forEach(({ token, logprob, top }, i) => {
      if (!trained[i + 1]) return;
      loss -= logprob;
      correct += top[0]!.token === token ? 1 : 0;
      count += 1;
    });
  }
  return { loss: loss / Math.max(1, count), tokenAccuracy: correct / Math.max(1, count) };
}

function report(
  answers: Answers,
  questions: readonly Question[],
  labels: readonly string[] | null,
): ModelReport {
  const references = questions.map(({ reference }) => reference);
  return {
    loss: answers.loss,
    token_accuracy: answers.tokenAccuracy,
    exact_match: exactMatch(answers.texts, references),
    rouge_l: rougeL(answers.texts, references),
    bleu: bleu(answers.texts, references),
    unfinished: answers.unfinished,
    classification: labels && classify(answers.texts, references, labels),
  };
}
