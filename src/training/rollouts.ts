// Rollouts for reinforcement: several answers of the model to each prompt of a step, graded, with their advantages over
// the others of the group. Grades come from a function; graders, steps and checkpoints are elsewhere.
import type { Dataset } from '../data/dataset.ts';
import type { Example } from '../data/example-form.ts';
import type { PromptLine } from '../data/prompts.ts';
import type { GraderErrorKind } from '../evaluation/graders/grader.ts';
import type { Answer, Question } from './answerer.ts';
import type { ValidationResult } from './checkpoint.ts';
import { TrainingFailure } from './failure.ts';
import type { Emit } from './loop.ts';
import type { RolloutSettings } from './objectives/objective.ts';
import type { Policy } from './policy.ts';
import type { GradeAnswers, GradedAnswer } from './protocol.ts';
import { fillBits, type Place } from './random.ts';
import type { Between, Reference } from './trainer.ts';
import type { Validation } from './validation.ts';

/** A file of prompts, as tokens and as graders see them. */
export interface Prompts {
  readonly dataset: Dataset;
  readonly lines: readonly PromptLine[];
}

export interface Rollouts {
  /** Draws the examples of a step, by their indices in the training file. */
  draw(step: number, places: ArrayLike<number>): Promise<Drawn>;
  readonly validation: Validation | null;
  close(): Promise<void>;
}

export interface Drawn {
  /** Answers to train on; values: the advantage, then the reference of every token. */
  readonly examples: Example[];
  readonly metrics: Record<string, number>;
}

export interface RolloutOptions {
  readonly settings: RolloutSettings;
  readonly seed: number;
  readonly policy: Policy;
  readonly reference: Reference;
  readonly training: Prompts;
  readonly validation: Prompts | null;
  readonly grade: GradeAnswers;
  readonly emit: Emit;
  readonly between: Between;
  /** Aborted when the run is to stop; its reason is a TrainerCommand. */
  readonly stop: AbortSignal;
}

/** Added to the standard deviation, as in trl, so that rewards that differ only by rounding have no effect. */
const EPSILON = 1e-4;
/** Prompts of a validation between the ends of epochs, and those that are answered at once in one of the whole file. */
export const SAMPLED_PROMPTS = 16;
/** After this many consecutive steps without a graded answer, the grader is at fault. */
const MAX_UNGRADED_STEPS = 3;

/** Advantages of one group: (reward - mean) / (deviation + epsilon), with the sample standard deviation (n - 1). */
export function advantagesOf(rewards: readonly number[]): number[] {
  const mean = meanOf(rewards);
  const deviation = deviationOf(rewards);
  return rewards.map(reward => (reward - mean) / (deviation + EPSILON));
}

export const meanOf = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

function deviationOf(values: readonly number[]): number {
  const mean = meanOf(values);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
}

interface Sampled {
  question: Question;
  answer: Answer;
  reward: number;
}

/** Prompts to answer, `count` times each. */
interface Asked {
  lines: readonly PromptLine[];
  /** A line's prompt. */
  tokensOf(place: number): Int32Array;
  places: readonly number[];
  count: number;
  /** Where the seeds are drawn. */
  purpose: Place['purpose'];
  step: number;
}

export function openRollouts(options: RolloutOptions): Rollouts {
  const { settings, policy, reference, training, validation } = options;
  const { stop, cancel } = stopsOf(options.stop);
  const judge = openJudge(options);

  /** The groups of each prompt, one after the other. Stops as the programs of its part of a step do. */
  async function sample(asked: Asked, during: 'step' | 'loss'): Promise<Sampled[]> {
    const signal = during === 'step' ? stop : cancel;
    const questions = questionsOf(asked, options.seed);
    try {
      const answers = await policy.answer(
        questions.map(({ question }) => question),
        signal,
      );
      const grades = await gradesOf(questions, answers, { grade: options.grade, signal });
      await judge(grades, asked);
      return answers.map((answer, i) => ({
        question: questions[i]!.question,
        answer,
        reward: grades[i]!.score,
      }));
    } catch (error) {
      await options.between(during); // throws where the error is that the run is to stop
      throw error;
    }
  }

  return {
    async draw(step, places) {
      const count = settings.group;
      const asked = {
        ...askedFrom(training),
        places: Array.from(places),
        count,
        purpose: 'rollout',
        step,
      } as const;
      const sampled = await sample(asked, 'step');
      const rewards = sampled.map(({ reward }) => reward);
      const groups = Array.from(places, (_, i) => rewards.slice(i * count, (i + 1) * count));
      const bare = sampled.map(toExample);
      const started = await reference.measure(bare);
      const advantages = groups.flatMap(advantagesOf);
      return {
        examples: bare.map((example, i) => ({ ...example, values: [advantages[i]!, ...started[i]!] })),
        metrics: {
          train_reward_mean: meanOf(rewards),
          train_reward_std: meanOf(groups.map(deviationOf)),
          train_completion_length: meanOf(sampled.map(({ answer }) => answer.tokens.length)),
        },
      };
    },

    validation: validation && {
      count: validation.dataset.count,
      truncated: validation.dataset.truncated,
      dropped: validation.dataset.dropped,
      equalAnswers: validation.dataset.equalAnswers,
      isDue: step => step % settings.evalInterval === 0,
      sample: step => validate(rotating(step, settings.evalInterval, validation.dataset.count)),
      all: () => validate(Array.from({ length: validation.dataset.count }, (_, i) => i)),
    },

    async close() {
      await policy.close();
      await reference.close();
    },
  };

  /** Uses the same seeds at every step, so that differences come from the model. */
  async function validate(places: readonly number[]): Promise<ValidationResult> {
    const rewards: number[] = [];
    for (let start = 0; start < places.length; start += SAMPLED_PROMPTS) {
      const some = places.slice(start, start + SAMPLED_PROMPTS);
      const count = settings.evalSamples;
      const asked = {
        ...askedFrom(validation!),
        places: some,
        count,
        purpose: 'validation',
        step: 0,
      } as const;
      rewards.push(...(await sample(asked, 'loss')).map(({ reward }) => reward));
    }
    return { reward_mean: meanOf(rewards) };
  }
}

/** The next few prompts of the file, following those of the last validation. */
function rotating(step: number, interval: number, total: number): number[] {
  const size = Math.min(SAMPLED_PROMPTS, total);
  return Array.from({ length: size }, (_, i) => ((step / interval - 1) * size + i) % total);
}

const askedFrom = ({ dataset, lines }: Prompts): Pick<Asked, 'lines' | 'tokensOf'> => ({
  lines,
  tokensOf: place => dataset.read(place).sequences[0]!.tokens,
});

/** Answers to these questions, graded. Rejects with the signal's reason. */
export function gradesOf(
  questions: readonly { readonly line: PromptLine }[],
  answers: readonly Answer[],
  { grade, signal }: { grade: GradeAnswers; signal: AbortSignal },
): Promise<GradedAnswer[]> {
  const given = answers.map(({ text, toolCalls }, i) => ({ item: questions[i]!.line, text, toolCalls }));
  return orAborted(grade(given), signal);
}

export function questionsOf({ lines, tokensOf, places, count, purpose, step }: Asked, seed: number) {
  return places.flatMap(place => {
    const line = lines[place]!;
    const prompt = tokensOf(place);
    return Array.from({ length: count }, (_, sample) => {
      const at = [step, place, sample] as const;
      const [drawn] = fillBits(new Uint32Array(1), { seed, purpose, at });
      return { line, question: { prompt, tools: line.tools ?? [], seed: drawn! } };
    });
  });
}

function toExample({ question: { prompt }, answer: { tokens } }: Sampled): Example {
  const whole = new Int32Array(prompt.length + tokens.length);
  whole.set(prompt);
  whole.set(tokens, prompt.length);
  return {
    sequences: [{ tokens: whole, trained: new Uint8Array(whole.length).fill(1, prompt.length) }],
    values: [],
  };
}

// ---- grades

/** Errors that are the answer's own fault: it is not JSON. */
const ANSWERS_FAULT: readonly GraderErrorKind[] = ['sample_parse_error'];

/** Reports answers that could not be graded, and fails the run if there is nothing else. */
function openJudge({ emit }: RolloutOptions) {
  let ungradedSteps = 0;
  return async (grades: readonly GradedAnswer[], { purpose, step }: Asked): Promise<void> => {
    const failures = grades.flatMap(
      ({ errors }) => errors.find(({ kind }) => !ANSWERS_FAULT.includes(kind)) ?? [],
    );
    const first = failures[0];
    if (purpose === 'rollout') ungradedSteps = failures.length === grades.length ? ungradedSteps + 1 : 0;
    if (!first) return;
    const why = `${first.kind}: ${first.details}`.slice(0, 500);
    if (ungradedSteps === MAX_UNGRADED_STEPS)
      throw new TrainingFailure(
        'grader_failed',
        '.grader',
        `The grader failed on every answer of ${MAX_UNGRADED_STEPS} steps in a row. ${why}`,
      );
    const where = purpose === 'rollout' ? `at step ${step}` : 'of the validation file';
    const message = `${failures.length} of ${grades.length} answers ${where} could not be graded and count as 0. ${why}`;
    await emit({ type: 'progress', level: 'warn', message });
  };
}

// ---- stopping

/** `cancel` is aborted only when the run is cancelled: a pause waits for the step and its validation. */
function stopsOf(stop: AbortSignal): { stop: AbortSignal; cancel: AbortSignal } {
  const cancelled = new AbortController();
  const hear = () => {
    if ((stop.reason as { type?: string }).type === 'cancel') cancelled.abort(stop.reason);
  };
  if (stop.aborted) hear();
  else stop.addEventListener('abort', hear, { once: true });
  return { stop, cancel: cancelled.signal };
}

async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const hear = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', hear, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', hear);
  }
}
