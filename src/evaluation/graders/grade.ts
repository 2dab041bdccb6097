// Grades a sample with a grader: dispatches by type, and turns grading failures into scores of 0.
import {
  type Grade,
  type Grader,
  type GraderTools,
  GradingFailure,
  gradeOf,
  type SingleGrader,
  type Subject,
} from './grader.ts';
import { gradeLabelModel } from './label-model.ts';
import { gradeMulti } from './multi.ts';
import { gradePython } from './python.ts';
import { gradeScoreModel } from './score-model.ts';
import { gradeStringCheck } from './string-check.ts';
import { gradeTextSimilarity } from './text-similarity.ts';

type Rule<Type extends SingleGrader['type']> = (
  grader: Extract<SingleGrader, { type: Type }>,
  subject: Subject,
  tools: GraderTools,
  signal: AbortSignal,
) => Promise<Grade>;

const rules: { [Type in SingleGrader['type']]: Rule<Type> } = {
  string_check: gradeStringCheck,
  text_similarity: gradeTextSimilarity,
  score_model: gradeScoreModel,
  label_model: gradeLabelModel,
  python: gradePython,
};

/** Throws the signal's reason, and errors that are not the grader's: an overloaded sandbox, LimitReached. */
export async function grade(
  grader: Grader,
  subject: Subject,
  tools: GraderTools,
  signal: AbortSignal,
): Promise<Grade> {
  try {
    if (grader.type !== 'multi') return await gradeSingle(grader, subject, tools, signal);
    return await gradeMulti(grader, (part, name) => grade({ ...part, name }, subject, tools, signal));
  } catch (error) {
    if (!(error instanceof GradingFailure)) throw error;
    return gradeOf(0, false, { ...error.spent, errors: [{ kind: error.kind, details: error.message }] });
  }
}

function gradeSingle(
  grader: SingleGrader,
  subject: Subject,
  tools: GraderTools,
  signal: AbortSignal,
): Promise<Grade> {
  const rule = rules[grader.type] as Rule<SingleGrader['type']>;
  return rule(grader as never, subject, tools, signal);
}
