// multi: several graders and a formula over their scores.
import { evaluateFormula, FormulaError, namesIn, parseFormula } from './formula.ts';
import { type Grade, GradingFailure, gradeOf, type MultiGrader, type SingleGrader } from './grader.ts';

/** By their names in the formula. */
export function partsOf({ graders }: MultiGrader): [name: string, grader: SingleGrader][] {
  if (Array.isArray(graders)) return graders.map(grader => [grader.name, grader]);
  if (isGrader(graders)) return [[graders.name, graders]];
  return Object.entries(graders);
}

function isGrader(graders: object): graders is SingleGrader {
  return 'type' in graders && typeof graders.type === 'string';
}

/** A failed part scores 0; its errors become those of the whole. */
export async function gradeMulti(
  grader: MultiGrader,
  gradePart: (part: SingleGrader, name: string) => Promise<Grade>,
): Promise<Grade> {
  const parts = partsOf(grader);
  const grades = await Promise.all(parts.map(([name, part]) => gradePart(part, name)));
  const scores = Object.fromEntries(parts.map(([name], i) => [name, grades[i]!.score]));
  const together = {
    errors: grades.flatMap(grade => grade.errors),
    usage: grades.flatMap(grade => grade.usage),
    scores,
  };
  const score = calculate(grader.calculate_output, new Map(Object.entries(scores)));
  return gradeOf(score, score >= 0.5, together);
}

function calculate(formula: string, values: ReadonlyMap<string, number>): number {
  try {
    const parsed = parseFormula(formula);
    const unknown = namesIn(parsed).find(name => !values.has(name));
    if (unknown !== undefined)
      throw new GradingFailure('invalid_variable_error', `no grader is named '${unknown}'`);
    const score = evaluateFormula(parsed, values);
    if (!Number.isFinite(score)) throw new GradingFailure('other_error', `the formula gives ${score}`);
    return score;
  } catch (error) {
    if (error instanceof FormulaError) throw new GradingFailure('formula_parse_error', error.message);
    throw error;
  }
}
