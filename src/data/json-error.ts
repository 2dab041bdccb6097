// Position and reason of a JSON syntax error, worded like Python's `json` since OpenAI's job errors use its messages. Called after
// JSON.parse has failed; builds no value.

export interface JsonError {
  reason: string;
  /** 0-based, in code points. */
  position: number;
}

/** Null for valid JSON. */
export function findJsonError(text: string): JsonError | null {
  const found = scan(text);
  return found === null
    ? null
    : { reason: found.reason, position: found.position - pairsBefore(text, found.position) };
}

/** Surrogate pairs count twice in JavaScript's offsets. */
function pairsBefore(text: string, end: number): number {
  let pairs = 0;
  for (let at = 0; at < end; at++) {
    if ((text.charCodeAt(at) & 0xfc00) === 0xd800 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00)
      pairs += 1;
  }
  return pairs;
}

/** `Expecting ',' delimiter: line 1 column 79 (char 78)`; always line 1, since JSONL values have only one. */
export function describeJsonError({ reason, position }: JsonError): string {
  return `${reason}: line 1 column ${position + 1} (char ${position})`;
}

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /null|true|false|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these inside a string.
const STRING_PART = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /["\\/bfnrt]/;
const HEX = /[0-9A-Fa-f]{4}/y;

type Expected = 'value' | 'key' | 'after';

/** Iterative, with an explicit stack: ten million nested brackets must not overflow the call stack. */
function scan(text: string): JsonError | null {
  const open: string[] = [];
  let at = skip(SPACE, text, 0);
  let expected: Expected = 'value';
  for (;;) {
    const step: Step = STEPS[expected](text, at, open);
    if (step === null || 'reason' in step) return step;
    at = skip(SPACE, text, step.at);
    expected = step.expected;
  }
}

type Step = { at: number; expected: Expected } | JsonError | null;

const STEPS = { value: scanValue, key: scanKey, after: scanAfter } satisfies Record<
  Expected,
  (text: string, at: number, open: string[]) => Step
>;

function scanValue(text: string, at: number, open: string[]): Step {
  const first = text[at];
  if (first === '{' || first === '[') {
    open.push(first);
    const inside = skip(SPACE, text, at + 1);
    if (text[inside] === closing(first)) return { at: inside, expected: 'after' };
    return { at: inside, expected: first === '{' ? 'key' : 'value' };
  }
  if (first === '"') {
    const end = scanString(text, at);
    return typeof end === 'number' ? { at: end, expected: 'after' } : end;
  }
  const end = skip(SCALAR, text, at);
  return end > at ? { at: end, expected: 'after' } : { reason: 'Expecting value', position: at };
}

function scanKey(text: string, at: number): Step {
  if (text[at] !== '"') return { reason: 'Expecting property name enclosed in double quotes', position: at };
  const end = scanString(text, at);
  if (typeof end !== 'number') return end;
  const colon = skip(SPACE, text, end);
  if (text[colon] !== ':') return { reason: "Expecting ':' delimiter", position: colon };
  return { at: colon + 1, expected: 'value' };
}

function scanAfter(text: string, at: number, open: string[]): Step {
  const container = open.at(-1);
  if (container === undefined) return at === text.length ? null : { reason: 'Extra data', position: at };
  if (text[at] === closing(container)) {
    open.pop();
    return { at: at + 1, expected: 'after' };
  }
  if (text[at] !== ',') return { reason: "Expecting ',' delimiter", position: at };
  return { at: at + 1, expected: container === '{' ? 'key' : 'value' };
}

/** Returns the offset after the closing quote. */
function scanString(text: string, start: number): number | JsonError {
  for (let at = start + 1; ; ) {
    at = skip(STRING_PART, text, at);
    const character = text[at];
    if (character === '"') return at + 1;
    if (character === undefined) return { reason: 'Unterminated string starting at', position: start };
    if (character !== '\\') return { reason: 'Invalid control character at', position: at };
    const escaped = text[at + 1];
    if (escaped === undefined) return { reason: 'Unterminated string starting at', position: start };
    if (escaped === 'u') {
      if (skip(HEX, text, at + 2) === at + 2) return { reason: 'Invalid \\uXXXX escape', position: at + 1 };
      at += 6;
    } else if (ESCAPE.test(escaped)) at += 2;
    else return { reason: 'Invalid \\escape', position: at };
  }
}

const closing = (open: string) => (open === '{' ? '}' : ']');

/** End of the match of a sticky expression at `at`; `at` itself without a match. */
function skip(expression: RegExp, text: string, at: number): number {
  expression.lastIndex = at;
  return expression.test(text) ? expression.lastIndex : at;
}
