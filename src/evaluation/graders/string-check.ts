// string_check: compares two texts; scores 0 or 1.
import { type Grade, gradeOf, type StringCheckGrader, type Subject } from './grader.ts';
import { renderTemplate } from './template.ts';

const operations: Record<StringCheckGrader['operation'], (input: string, reference: string) => boolean> = {
  eq: (input, reference) => input === reference,
  ne: (input, reference) => input !== reference,
  like: (input, reference) => input.includes(reference),
  ilike: (input, reference) => input.toLowerCase().includes(reference.toLowerCase()),
};

export async function gradeStringCheck(grader: StringCheckGrader, subject: Subject): Promise<Grade> {
  const input = renderTemplate(grader.input, subject);
  const reference = renderTemplate(grader.reference, subject);
  const holds = operations[grader.operation](input, reference);
  return gradeOf(holds ? 1 : 0, holds);
}
