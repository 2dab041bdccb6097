// Formal languages as expressions, and their automata: regular expressions with intersection, complement and recursion, matched
// by derivatives (Brzozowski, JACM 1964; Owens, Reppy, Turon, JFP 2009). Independent of JSON and tokens.
//
// A symbol is a byte, or a number from 256 on that stands for a whole token. Expressions are interned: equal ones are the
// same object, so that an equal derivative is the same state.

export type Ranges = readonly (readonly [first: number, last: number])[];

export type Expression = { readonly id: number } & (
  | { readonly kind: 'nothing' | 'empty' }
  | { readonly kind: 'symbols'; readonly ranges: Ranges }
  | { readonly kind: 'sequence'; readonly first: Expression; readonly rest: Expression }
  | { readonly kind: 'either'; readonly branches: readonly Expression[] }
  | { readonly kind: 'repeat'; readonly body: Expression; readonly min: number; readonly max: number }
  | { readonly kind: 'both'; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'not'; readonly body: Expression }
  | { readonly kind: 'named'; readonly target: () => Expression }
);

export interface Language {
  readonly nothing: Expression;
  readonly empty: Expression;
  symbols(ranges: Ranges): Expression;
  sequence(...parts: readonly Expression[]): Expression;
  either(...branches: readonly Expression[]): Expression;
  /** `max` may be Infinity. */
  repeat(body: Expression, min: number, max: number): Expression;
  /** Intersection; neither may contain a `named` expression. */
  both(left: Expression, right: Expression): Expression;
  /** Complement; `body` must not contain a `named` expression. */
  not(body: Expression): Expression;
  /** For recursion: `target` is resolved lazily. It must be neither nullable nor left-recursive. */
  named(target: () => Expression): Expression;
  /** The automaton of `root`. Afterwards no new symbols may be created. */
  automaton(root: Expression): Automaton;
}

/** States are numbers; -1 is the dead state. */
export interface Automaton {
  readonly start: number;
  step(state: number, symbol: number): number;
  /** Whether the text may end here. */
  isFinal(state: number): boolean;
  /** Number of expressions, which grows as states are reached. */
  readonly size: number;
}

/** Thrown when a language needs too many expressions. */
export class LanguageTooLarge extends Error {}

export const DEAD = -1;

/** About 200 MB of expressions and transitions; typical schemas need a few thousand expressions. */
const MAX_EXPRESSIONS = 300_000;

export function createLanguage(): Language {
  const known = new Map<string, Expression>();
  const all: Expression[] = [];
  const intern = (key: string, make: (id: number) => Expression): Expression => {
    const found = known.get(key);
    if (found) return found;
    if (all.length >= MAX_EXPRESSIONS) throw new LanguageTooLarge('too many expressions');
    const made = make(all.length);
    known.set(key, made);
    all.push(made);
    return made;
  };
  const nothing = intern('nothing', id => ({ id, kind: 'nothing' }));
  const empty = intern('empty', id => ({ id, kind: 'empty' }));

  const pair = (first: Expression, rest: Expression): Expression => {
    if (first === nothing || rest === nothing) return nothing;
    if (first === empty) return rest;
    if (rest === empty) return first;
    return unroll(first).reduceRight(
      (after, part) =>
        intern(`s${part.id},${after.id}`, id => ({ id, kind: 'sequence', first: part, rest: after })),
      rest,
    );
  };
  const either: Language['either'] = (...branches) => {
    const flat = new Set<Expression>();
    for (const branch of branches)
      for (const each of branch.kind === 'either' ? branch.branches : [branch]) flat.add(each);
    flat.delete(nothing);
    if (flat.size === 0) return nothing;
    const sorted = [...flat].sort((a, b) => a.id - b.id);
    if (sorted.length === 1) return sorted[0]!;
    return intern(`e${sorted.map(({ id }) => id).join()}`, id => ({ id, kind: 'either', branches: sorted }));
  };
  const language: Language = {
    nothing,
    empty,
    symbols: ranges =>
      ranges.length === 0
        ? nothing
        : intern(`c${ranges.join(';')}`, id => ({ id, kind: 'symbols', ranges: [...ranges] })),
    sequence: (...parts) => parts.reduceRight((rest, first) => pair(first, rest), empty),
    either,
    repeat(body, min, max) {
      if (max < min) return nothing;
      if (max === 0 || body === empty) return empty;
      if (body === nothing) return min === 0 ? empty : nothing;
      if (min === 1 && max === 1) return body;
      return intern(`r${body.id},${min},${max}`, id => ({ id, kind: 'repeat', body, min, max }));
    },
    both(left, right) {
      if (left === nothing || right === nothing) return nothing;
      if (left === right) return left;
      const [a, b] = left.id < right.id ? [left, right] : [right, left];
      return intern(`b${a.id},${b.id}`, id => ({ id, kind: 'both', left: a, right: b }));
    },
    not: body => (body.kind === 'not' ? body.body : intern(`n${body.id}`, id => ({ id, kind: 'not', body }))),
    named: target => intern(`#${all.length}`, id => ({ id, kind: 'named', target })),
    automaton: root => openAutomaton(language, all, root),
  };
  return language;
}

/** The parts of a sequence, which nests to the right. */
function unroll(expression: Expression): Expression[] {
  const parts: Expression[] = [];
  let left = expression;
  for (; left.kind === 'sequence'; left = left.rest) parts.push(left.first);
  return [...parts, left];
}

/** Whether the language contains the empty string. */
function isNullable(expression: Expression): boolean {
  switch (expression.kind) {
    case 'empty':
      return true;
    case 'sequence':
      return isNullable(expression.first) && isNullable(expression.rest);
    case 'either':
      return expression.branches.some(isNullable);
    case 'repeat':
      return expression.min === 0 || isNullable(expression.body);
    case 'both':
      return isNullable(expression.left) && isNullable(expression.right);
    case 'not':
      return !isNullable(expression.body);
    default:
      return false;
  }
}

/** Brzozowski derivative by `symbol`. */
type Derive = (expression: Expression, symbol: number) => Expression;

function deriver(language: Language): Derive {
  const { nothing, empty, sequence, either, repeat, both, not } = language;
  const derive: Derive = (expression, symbol) => {
    switch (expression.kind) {
      case 'symbols':
        return expression.ranges.some(([first, last]) => symbol >= first && symbol <= last) ? empty : nothing;
      case 'sequence': {
        const { first, rest } = expression;
        const begun = sequence(derive(first, symbol), rest);
        return isNullable(first) ? either(begun, derive(rest, symbol)) : begun;
      }
      case 'either':
        return either(...expression.branches.map(branch => derive(branch, symbol)));
      case 'repeat': {
        const { body, min, max } = expression;
        return sequence(derive(body, symbol), repeat(body, Math.max(0, min - 1), max - 1));
      }
      case 'both':
        return both(derive(expression.left, symbol), derive(expression.right, symbol));
      case 'not':
        return not(derive(expression.body, symbol));
      case 'named':
        return derive(expression.target(), symbol);
      default:
        return nothing;
    }
  };
  return derive;
}

function openAutomaton(language: Language, all: readonly Expression[], root: Expression): Automaton {
  const derive = deriver(language);
  const classes = symbolClasses(all);
  const completes = completion(all, derive, classes.samples);
  const transitions: (Int32Array | undefined)[] = [];
  const UNKNOWN = -2;
  return {
    start: completes(root) ? root.id : DEAD,
    step(state, symbol) {
      if (state === DEAD) return DEAD;
      const row = transitions[state] ?? new Int32Array(classes.samples.length).fill(UNKNOWN);
      transitions[state] = row;
      const group = classes.of[symbol] ?? 0;
      const next = row[group]!;
      if (next !== UNKNOWN) return next;
      const derived = derive(all[state]!, classes.samples[group]!);
      const reached = completes(derived) ? derived.id : DEAD;
      row[group] = reached;
      return reached;
    },
    isFinal: state => state !== DEAD && isNullable(all[state]!),
    get size() {
      return all.length;
    },
  };
}

/** Symbols that no expression distinguishes share a class. Class 0: symbols in no expression. */
function symbolClasses(all: readonly Expression[]): { of: Uint16Array; samples: number[] } {
  const ranges = all.flatMap(expression => (expression.kind === 'symbols' ? expression.ranges : []));
  const end = Math.max(256, ...ranges.map(([, last]) => last + 1));
  const bounds = [...new Set([0, 256, ...ranges.flatMap(([first, last]) => [first, last + 1])])]
    .filter(bound => bound < end)
    .sort((a, b) => a - b);
  const of = new Uint16Array(end);
  const samples = [end];
  for (const [i, first] of bounds.entries()) {
    of.fill(samples.length, first, bounds[i + 1] ?? end);
    samples.push(first);
  }
  return { of, samples };
}

/**
 * Whether a language is non-empty, so that no state without a path to a final state is entered. Names are solved as a
 * least fixed point, intersections and complements by searching their derivatives for a final state.
 */
function completion(
  all: readonly Expression[],
  derive: Derive,
  samples: readonly number[],
): (expression: Expression) => boolean {
  const known = new Map<Expression, boolean>();
  const names = all.filter(expression => expression.kind === 'named');
  const ended = new Set<Expression>();
  let settled = false;

  const completes = (expression: Expression): boolean => {
    const found = known.get(expression);
    if (found !== undefined) return found;
    const answer = decide(expression);
    // A negative result is not final before the fixed point is reached.
    if (answer || settled) known.set(expression, answer);
    return answer;
  };
  const decide = (expression: Expression): boolean => {
    switch (expression.kind) {
      case 'nothing':
        return false;
      case 'sequence':
        return unroll(expression).every(completes);
      case 'either':
        return expression.branches.some(completes);
      case 'repeat':
        return expression.min === 0 || completes(expression.body);
      case 'both':
      case 'not':
        return findEnd(expression, known, derive, samples);
      case 'named':
        return ended.has(expression);
      default:
        return true;
    }
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const name of names)
      if (name.kind === 'named' && !ended.has(name) && completes(name.target())) {
        ended.add(name);
        changed = true;
      }
  }
  settled = true;
  return completes;
}

/** Depth first, since any final state will do, not the nearest. Results for expressions on the way are stored in `known`. */
function findEnd(
  expression: Expression,
  known: Map<Expression, boolean>,
  derive: Derive,
  samples: readonly number[],
): boolean {
  const cameFrom = new Map<Expression, Expression | null>([[expression, null]]);
  const open = [expression];
  for (let next = open.pop(); next; next = open.pop()) {
    if (isNullable(next) || known.get(next)) {
      for (let at: Expression | null = next; at; at = cameFrom.get(at)!) known.set(at, true);
      return true;
    }
    for (const symbol of samples) {
      const derived = derive(next, symbol);
      if (derived.kind === 'nothing' || known.get(derived) === false || cameFrom.has(derived)) continue;
      cameFrom.set(derived, next);
      open.push(derived);
    }
  }
  for (const seen of cameFrom.keys()) known.set(seen, false);
  return false;
}
