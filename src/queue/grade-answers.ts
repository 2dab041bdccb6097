// Grades answers of a model under training, several concurrently. The trainer turns the scores into rewards.
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../errors.ts';
import { modelTools } from '../evaluation/ask-model.ts';
import { grade } from '../evaluation/graders/grade.ts';
import { type Grader, type GraderTools, sampleOf } from '../evaluation/graders/grader.ts';
import { LimitReached } from '../metering/admission.ts';
import type { JobMethod } from '../store/jobs.ts';
import type { GradeAnswers, GradedAnswer, SampledAnswer } from '../training/protocol.ts';
import type { EvaluateDeps } from './evaluate.ts';

export type GradeDeps = Pick<
  EvaluateDeps,
  'config' | 'log' | 'pool' | 'generation' | 'usage' | 'graderApi' | 'python'
>;

interface GradedJob {
  readonly id: string;
  readonly projectId: string;
  readonly apiKeyId: string | null;
  readonly method: JobMethod;
}

const ANSWERS_AT_ONCE = 8;
/** Timeout for grading one answer; a model as judge is slow. */
const MAX_GRADING_MS = 300_000;
/** Longest wait for a rate limit within a grader. Training then waits on, but repeats the grader's earlier requests. */
const PATIENCE_SECONDS = 60;
/** Before a retry of an overloaded sandbox. */
const BETWEEN_MS = 2000;

/** Null for methods without a grader. The function rejects with the signal's reason, and for unexpected errors. */
export function answerGrader(deps: GradeDeps, job: GradedJob, signal: AbortSignal): GradeAnswers | null {
  if (job.method.type !== 'reinforcement') return null;
  const { grader } = job.method.reinforcement;
  const asker = { projectId: job.projectId, apiKeyId: job.apiKeyId ?? '' };
  const tools: GraderTools = {
    ...modelTools(deps, asker, PATIENCE_SECONDS),
    python: deps.python,
    owner: job.id,
  };
  return async answers => {
    const grades = new Array<GradedAnswer>(answers.length);
    const left = answers.entries();
    const hand = async () => {
      for (const [index, answer] of left) grades[index] = await gradeOne(grader, answer, tools, signal);
    };
    try {
      await Promise.all(Array.from({ length: ANSWERS_AT_ONCE }, hand));
    } catch (error) {
      if (!signal.aborted) deps.log.error({ error }, 'grading broke off');
      throw error;
    }
    return grades;
  };
}

/** Score 0 where grading fails. */
async function gradeOne(
  grader: Grader,
  { item, text, toolCalls }: SampledAnswer,
  tools: GraderTools,
  signal: AbortSignal,
): Promise<GradedAnswer> {
  const subject = { item, sample: sampleOf(text, toolCalls) };
  let tooLong = AbortSignal.timeout(MAX_GRADING_MS);
  for (;;) {
    try {
      const { score, errors } = await grade(grader, subject, tools, AbortSignal.any([signal, tooLong]));
      if (Number.isFinite(score)) return { score, errors };
      return failed(`the score is ${score}`);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LimitReached) {
        await sleep(error.seconds * 1000, undefined, { signal });
        tooLong = AbortSignal.timeout(MAX_GRADING_MS);
        continue;
      }
      if (tooLong.aborted) return failed(`it took more than ${MAX_GRADING_MS / 1000} seconds`);
      if (!(error instanceof ApiError)) throw error;
      if (error.kind !== 'server_is_overloaded') return failed(error.message);
      await sleep(BETWEEN_MS, undefined, { signal });
    }
  }
}

const failed = (details: string): GradedAnswer => ({ score: 0, errors: [{ kind: 'other_error', details }] });
