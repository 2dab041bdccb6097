// Templates of graders and prompts: `{{ item.question }}`, `{{sample.output_json.steps[0]}}`. Only paths into two namespaces; no
// expressions, filters or loops.
import { ApiError } from '../../errors.ts';
import { GradingFailure, type Subject } from './grader.ts';

const VARIABLE = /\{\{([^{}]*)\}\}/g;
const PATH = /^(item|sample)((?:\.[\p{L}\p{N}_$-]+|\[\d+\]|\[(?:"[^"]*"|'[^']*')\])*)$/u;
const STEP = /\.([\p{L}\p{N}_$-]+)|\[(\d+)\]|\["([^"]*)"\]|\['([^']*)'\]/gu;

type Namespace = 'item' | 'sample';

interface Variable {
  namespace: Namespace;
  steps: string[];
}

function readPath(text: string): Variable | null {
  const found = PATH.exec(text.trim());
  if (!found) return null;
  const steps = [...found[2]!.matchAll(STEP)].map(([, ...names]) => names.find(name => name !== undefined)!);
  return { namespace: found[1] as Namespace, steps };
}

/** Throws ApiError for a variable outside the namespaces. */
export function checkTemplate(
  text: string,
  param: string,
  namespaces: readonly Namespace[] = ['item', 'sample'],
): void {
  for (const [found, path] of text.matchAll(VARIABLE)) {
    const variable = readPath(path!);
    if (variable && namespaces.includes(variable.namespace)) continue;
    const known = namespaces.map(name => `{{${name}...}}`).join(' and ');
    throw new ApiError(
      'invalid_value',
      `Invalid template variable '${found}' in '${param}': only ${known} are known.`,
      {
        param,
      },
    );
  }
}

/** Total length of rendered variables: a template that repeats a long text a thousand times would exhaust memory. */
const LONGEST_VALUES = 4_000_000;

/** Non-text values are rendered as JSON. Throws GradingFailure for missing values and beyond LONGEST_VALUES characters. */
export function renderTemplate(text: string, subject: Subject): string {
  let length = 0;
  return text.replace(VARIABLE, (found, path: string) => {
    const variable = readPath(path);
    if (!variable) throw new GradingFailure('invalid_variable_error', `${found} is no variable`);
    const value = lookUp(variable, subject);
    if (value === undefined) throw missing(found, variable);
    const written = typeof value === 'string' ? value : JSON.stringify(value);
    length += written.length;
    if (length > LONGEST_VALUES)
      throw new GradingFailure('other_error', `variables may have ${LONGEST_VALUES} characters together`);
    return written;
  });
}

/** Whether a text is a path into the item. */
export function isPath(text: string): boolean {
  return readPath(text)?.namespace === 'item';
}

/** The value at a path such as `item.trajectory`; undefined if there is none. */
export function resolvePath(path: string, subject: Subject): unknown {
  const variable = readPath(path);
  return variable ? lookUp(variable, subject) : undefined;
}

function lookUp({ namespace, steps }: Variable, subject: Subject): unknown {
  let value: unknown = subject[namespace];
  for (const step of steps) {
    const holds = typeof value === 'object' && value !== null && Object.hasOwn(value, step);
    if (!holds) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

function missing(found: string, { namespace, steps }: Variable): GradingFailure {
  const noJson = namespace === 'sample' && steps[0] === 'output_json';
  if (noJson)
    return new GradingFailure('sample_parse_error', `${found}: the output is not JSON, or lacks this value`);
  return new GradingFailure('invalid_variable_error', `${found} is not there`);
}
