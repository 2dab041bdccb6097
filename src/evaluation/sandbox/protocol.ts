// Messages between the sandbox and the process of a Python grader: one line of JSON each. Those of the process are untrusted.
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

/** Null for an invalid answer. */
export function readAnswer(line: string): PythonAnswer | null {
  try {
    const value: unknown = JSON.parse(line);
    return Value.Check(Answer, value) ? value : null;
  } catch {
    return null;
  }
}
