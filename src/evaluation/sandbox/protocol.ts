// What is said to the process of a Python grader and back: a line of JSON each. What comes back is untrusted.
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';

export interface PythonQuestion {
  source: string;
  sample: unknown;
  item: unknown;
}

const Answer = Type.Union([
  Type.Object({ type: Type.Literal('ready') }),
  Type.Object({ type: Type.Literal('score'), score: Type.Number() }),
  Type.Object({ type: Type.Literal('error'), message: Type.String({ maxLength: 4000 }) }),
]);
export type PythonAnswer = Static<typeof Answer>;

/** Null for anything that is no answer. */
export function readAnswer(line: string): PythonAnswer | null {
  try {
    const value: unknown = JSON.parse(line);
    return Value.Check(Answer, value) ? value : null;
  } catch {
    return null;
  }
}
