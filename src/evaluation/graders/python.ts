// python: `def grade(sample, item) -> float`, run in the sandbox.
import {
  type Grade,
  type GraderTools,
  GradingFailure,
  gradeOf,
  type PythonGrader,
  type Subject,
} from './grader.ts';

export const LONGEST_SOURCE_BYTES = 256 * 1024;
const DEFAULT_THRESHOLD = 0.5;

export async function gradePython(
  grader: PythonGrader,
  { sample, item }: Subject,
  { python, owner }: Pick<GraderTools, 'python' | 'owner'>,
  signal: AbortSignal,
): Promise<Grade> {
  const outcome = await python.grade(
    `${owner}/${grader.name}`,
    { source: grader.source, sample, item },
    signal,
  );
  if (outcome.type === 'error') throw new GradingFailure('python_grader_runtime_error', outcome.message);
  if (outcome.type === 'failed')
    throw new GradingFailure('python_grader_server_error', `${outcome.reason}: ${outcome.message}`);
  return gradeOf(outcome.score, outcome.score >= (grader.pass_threshold ?? DEFAULT_THRESHOLD));
}
