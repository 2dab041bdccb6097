// Formulas of multi graders: numbers, names, + - * / ^, parentheses and a few functions. Parses them into a tree and evaluates it;
// never runs them as code.

const functions = {
  min: Math.min,
  max: Math.max,
  abs: Math.abs,
  floor: Math.floor,
  ceil: Math.ceil,
  exp: Math.exp,
  sqrt: Math.sqrt,
  log: Math.log,
} satisfies Record<string, (...values: number[]) => number>;
type FunctionName = keyof typeof functions;
const SEVERAL: readonly string[] = ['min', 'max'];

export type Formula =
  | { kind: 'number'; value: number }
  | { kind: 'name'; name: string }
  | { kind: 'call'; name: FunctionName; values: Formula[] }
  | { kind: 'negate'; value: Formula }
  | { kind: 'pair'; operator: Operator; left: Formula; right: Formula };

const operators = {
  '+': { strength: 1, apply: (a: number, b: number) => a + b },
  '-': { strength: 1, apply: (a: number, b: number) => a - b },
  '*': { strength: 2, apply: (a: number, b: number) => a * b },
  '/': { strength: 2, apply: (a: number, b: number) => a / b },
  '^': { strength: 4, apply: (a: number, b: number) => a ** b },
};
type Operator = keyof typeof operators;
/** Unary minus: -x^2 is -(x^2), and -x*y is (-x)*y. */
const NEGATION_STRENGTH = 3;

export class FormulaError extends Error {}

const TOKEN =
  /\s*(?:(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)|([\p{L}_][\p{L}\p{N}_]*)|([-+*/^(),]))/uy;
const MAX_LENGTH = 10_000;
const MAX_DEPTH = 200;

function tokenize(text: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  const end = text.trimEnd().length;
  while (TOKEN.lastIndex < end) {
    const at = TOKEN.lastIndex;
    const found = TOKEN.exec(text);
    if (!found)
      throw new FormulaError(`unexpected '${text.slice(at).trimStart()[0]}' at character ${at + 1}`);
    tokens.push(found[0].trim());
  }
  return tokens;
}

/** Throws FormulaError with reason and position. */
export function parseFormula(text: string): Formula {
  if (text.length > MAX_LENGTH) throw new FormulaError(`it is longer than ${MAX_LENGTH} characters`);
  const reader: Reader = { tokens: tokenize(text), at: 0, depth: 0 };
  const formula = parseFrom(reader, 0);
  if (reader.at < reader.tokens.length) throw new FormulaError(`unexpected '${reader.tokens[reader.at]}'`);
  return formula;
}

interface Reader {
  readonly tokens: readonly string[];
  at: number;
  depth: number;
}

function next(reader: Reader): string {
  const token = reader.tokens[reader.at++];
  if (token === undefined) throw new FormulaError('it ends unexpectedly');
  return token;
}

function peekOperator({ tokens, at }: Reader): Operator | null {
  const token = tokens[at];
  return token !== undefined && Object.hasOwn(operators, token) ? (token as Operator) : null;
}

/** Precedence climbing: parses operators of at least this `strength`. */
function parseFrom(reader: Reader, strength: number): Formula {
  if (++reader.depth > MAX_DEPTH) throw new FormulaError(`it is nested more than ${MAX_DEPTH} deep`);
  let left = parseOperand(reader);
  for (let operator = peekOperator(reader); operator; operator = peekOperator(reader)) {
    const own = operators[operator].strength;
    if (own < strength) break;
    reader.at += 1;
    const right = parseFrom(reader, operator === '^' ? own : own + 1); // 2^3^2 is 2^(3^2)
    left = { kind: 'pair', operator, left, right };
  }
  reader.depth -= 1;
  return left;
}

function parseOperand(reader: Reader): Formula {
  const token = next(reader);
  if (token === '-') return { kind: 'negate', value: parseFrom(reader, NEGATION_STRENGTH) };
  if (token === '+') return parseFrom(reader, NEGATION_STRENGTH);
  if (token === '(') return parseGroup(reader);
  if (/^[\d.]/.test(token)) return { kind: 'number', value: Number(token) };
  if (!/^[\p{L}_]/u.test(token)) throw new FormulaError(`unexpected '${token}'`);
  return reader.tokens[reader.at] === '(' ? parseCall(reader, token) : { kind: 'name', name: token };
}

function parseGroup(reader: Reader): Formula {
  const inner = parseFrom(reader, 0);
  const end = next(reader);
  if (end !== ')') throw new FormulaError(`expected ')', found '${end}'`);
  return inner;
}

function parseCall(reader: Reader, name: string): Formula {
  if (!Object.hasOwn(functions, name))
    throw new FormulaError(`unknown function '${name}'; known are ${Object.keys(functions).join(', ')}`);
  reader.at += 1;
  const values = [parseFrom(reader, 0)];
  for (let token = next(reader); token !== ')'; token = next(reader)) {
    if (token !== ',') throw new FormulaError(`expected ',' or ')', found '${token}'`);
    values.push(parseFrom(reader, 0));
  }
  if (values.length > 1 && !SEVERAL.includes(name)) throw new FormulaError(`${name}() takes one value`);
  return { kind: 'call', name: name as FunctionName, values };
}

/** All names in the formula. */
export function namesIn(formula: Formula): string[] {
  if (formula.kind === 'name') return [formula.name];
  if (formula.kind === 'number') return [];
  if (formula.kind === 'negate') return namesIn(formula.value);
  if (formula.kind === 'call') return formula.values.flatMap(namesIn);
  return [...namesIn(formula.left), ...namesIn(formula.right)];
}

/** Values must include all names. The result may be infinite or NaN. */
export function evaluateFormula(formula: Formula, values: ReadonlyMap<string, number>): number {
  if (formula.kind === 'number') return formula.value;
  if (formula.kind === 'name') return values.get(formula.name)!;
  if (formula.kind === 'negate') return -evaluateFormula(formula.value, values);
  if (formula.kind === 'call') {
    const apply: (...numbers: number[]) => number = functions[formula.name];
    return apply(...formula.values.map(value => evaluateFormula(value, values)));
  }
  const { operator, left, right } = formula;
  return operators[operator].apply(evaluateFormula(left, values), evaluateFormula(right, values));
}
