// Jinja's `string` filter with the semantics of Python's `str`. The library's own does not support lists, maps or None, and writes
// `true` for True. Rewrites the parsed template: the filter becomes a function call.
import type { parse } from '@huggingface/jinja';

type Program = ReturnType<typeof parse>;

/** Name of the function; unlikely in a template. */
const NAME = 'python_str';

/** Must be set in the environment of rewritten programs. */
export const PYTHON_TEXT = { [NAME]: pythonText };

/** Replaces all uses of the filter. */
export function withPythonText(program: Program): Program {
  return rewritten(program) as Program;
}

function rewritten(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(rewritten);
  if (node instanceof Map)
    return new Map([...node].map(([key, value]) => [rewritten(key), rewritten(value)]));
  if (node === null || typeof node !== 'object') return node;
  const changed = Object.assign(Object.create(Object.getPrototypeOf(node)), node);
  for (const [field, value] of Object.entries(node)) changed[field] = rewritten(value);
  const { type, operand, filter } = changed;
  if (type !== 'FilterExpression' || filter.type !== 'Identifier' || filter.value !== 'string')
    return changed;
  return { type: 'CallExpression', callee: { type: 'Identifier', value: NAME }, args: [operand] };
}

/** Top-level values are passed unwrapped, items of lists and maps are wrapped. */
interface Wrapped {
  readonly value: unknown;
}

function pythonText(value: unknown): string {
  return typeof value === 'string' ? value : representation(value);
}

/** Python's `repr`. */
function representation(value: unknown): string {
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value)) return `[${value.map(within).join(', ')}]`;
  if (value instanceof Map)
    return `{${[...value].map(([key, item]) => `${quoted(String(key))}: ${within(item)}`).join(', ')}}`;
  return String(value);
}

const within = (item: unknown): string => representation((item as Wrapped).value);

/** Like Python: double quotes only for text with single quotes and no double quotes. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\n\r\t]|\p{Cc}/gu, character => ESCAPES[character] ?? hex(character));
  return `${quote}${quote === "'" ? escaped.replaceAll("'", "\\'") : escaped}${quote}`;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

const hex = (character: string): string => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
