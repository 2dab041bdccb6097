// Evaluates a model trained by reinforcement against its starting point: both answer prompts of the validation file, and the job's
// grader scores the answers. Reads model folders and returns metrics; writes nothing.
//
// The report (`evaluation.json`):
//   validation_examples  lines of the file; evaluated_examples  of them, evenly spread
//   samples  answers per prompt; max_tokens  limit of an answer
//   base, fine_tuned  each: reward_mean (over all answers), completion_length (mean, in tokens), unfinished (answers cut at the limit),
//     ungraded (answers that could not be graded: they count as 0)
//   examples  a few: prompt (the last message), the first answer of each model and its reward
import { type ExampleForm, truncateSequence } from '../data/example-form.ts';
import { type PromptLine, readPromptLines } from '../data/prompts.ts';
import { loadTokenizer } from '../data/tokenizer.ts';
import { SHOWN_EXAMPLES, shownText, spread } from '../evaluation/text-outputs.ts';
import { openModel } from '../models/registry.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { loadAdapter } from '../serving/adapters.ts';
import { type Answer, type Answerer, openAnswerer } from './answerer.ts';
import type { RolloutSettings, RunEvaluation } from './objectives/objective.ts';
import type { GradedAnswer } from './protocol.ts';
import { gradesOf, meanOf, questionsOf, SAMPLED_PROMPTS } from './rollouts.ts';

/** As for methods whose answers have a reference. */
const MAX_EXAMPLES = 100;
const SHOWN_LENGTH = 2000;

interface Graded extends Answer {
  readonly grade: GradedAnswer;
}

/** The validation prompts and how to answer them. */
interface Examination {
  readonly answerer: Answerer;
  readonly lines: readonly PromptLine[];
  readonly tokensOf: (place: number) => Int32Array;
  readonly places: readonly number[];
  readonly samples: number;
}

/** Null for an empty file. */
export async function evaluateRollouts(
  { answerLength, evalSamples: samples, form: answers }: RolloutSettings,
  form: ExampleForm,
  evaluation: RunEvaluation,
): Promise<Record<string, unknown> | null> {
  const { modelDirectory, adapterDirectory, fineTuned } = evaluation;
  const lines = await readPromptLines(evaluation.validationFile);
  if (lines.length === 0) return null;
  const places = spread([...lines.keys()], MAX_EXAMPLES);
  const [model, tokenizer] = [await openModel(modelDirectory), await loadTokenizer(modelDirectory)];
  const { truncate = truncateSequence } = form;
  const tokensOf = (place: number): Int32Array => {
    const [example] = form.examples(lines[place]!, tokenizer);
    return truncate(example!.sequences[0]!, evaluation.maxLength, tokenizer).tokens;
  };
  const start = adapterDirectory === null ? null : await loadAdapter(model, 'start', adapterDirectory);
  const end = await loadAdapter(model, 'fine-tuned', fineTuned.directory);
  const answerer = await openAnswerer({ ...evaluation, model, tokenizer, answerLength, form: answers });
  const examination = { answerer, lines, tokensOf, places, samples };
  try {
    const base = await examine(examination, start, evaluation);
    const tuned = await examine(examination, end, evaluation);
    const isWhole = ({ tokens }: Answer) => tokenizer.eosIds.includes(tokens.at(-1)!);
    return {
      validation_examples: lines.length,
      evaluated_examples: places.length,
      samples,
      max_tokens: answerLength,
      base: report(base, isWhole),
      fine_tuned: report(tuned, isWhole),
      examples: spread([...places.keys()], SHOWN_EXAMPLES).map(i => ({
        prompt: shownText(lines[places[i]!]!),
        ...shown('base', base[i * samples]!),
        ...shown('fine_tuned', tuned[i * samples]!),
      })),
    };
  } finally {
    await answerer.close();
  }
}

/** Graded answers, prompt by prompt, sampled with the same seeds as the run's other validations. */
async function examine(
  { answerer, lines, tokensOf, places, samples }: Examination,
  adapter: LoadedAdapter | null,
  { seed, grade, signal }: RunEvaluation,
): Promise<Graded[]> {
  const graded: Graded[] = [];
  for (let start = 0; start < places.length; start += SAMPLED_PROMPTS) {
    const some = places.slice(start, start + SAMPLED_PROMPTS);
    const asked = { places: some, count: samples, purpose: 'validation', step: 0 } as const;
    const questions = questionsOf({ ...asked, lines, tokensOf }, seed);
    const answers = await answerer.answer(
      questions.map(({ question }) => question),
      adapter,
      signal,
    );
    const grades = await gradesOf(questions, answers, { grade, signal });
    graded.push(...answers.map((answer, i) => ({ ...answer, grade: grades[i]! })));
  }
  return graded;
}

const report = (graded: readonly Graded[], isWhole: (answer: Answer) => boolean) => ({
  reward_mean: meanOf(graded.map(({ grade }) => grade.score)),
  completion_length: meanOf(graded.map(({ tokens }) => tokens.length)),
  unfinished: graded.filter(answer => !isWhole(answer)).length,
  ungraded: graded.filter(({ grade }) => grade.errors.length > 0).length,
});

const shown = (name: 'base' | 'fine_tuned', { text, toolCalls, grade }: Graded) => ({
  [name]: [text, ...toolCalls.map(call => JSON.stringify(call.function))].join('\n').slice(0, SHOWN_LENGTH),
  [`${name}_reward`]: grade.score,
});
