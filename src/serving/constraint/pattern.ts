// Regular expressions of JSON Schema's `pattern` as languages: those of ECMA-262 that describe regular languages. It matches nothing.
import { type JsonLanguage, without } from './json.ts';
import type { Expression, Ranges } from './language.ts';

/** Thrown for what is not served, or is not a regular expression; the message ends a sentence about it. */
export class PatternError extends Error {}

const EVERYTHING: Ranges = [[0, 0x10ffff]];
const DIGIT: Ranges = [[48, 57]];
const WORD: Ranges = [
  [48, 57],
  [65, 90],
  [95, 95],
  [97, 122],
];
const SPACE: Ranges = [
  [9, 13],
  [32, 32],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: Ranges = [
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
];
const complement = (ranges: Ranges): Ranges => without(EVERYTHING, ranges);

const CLASSES: Readonly<Record<string, Ranges>> = {
  d: DIGIT,
  D: complement(DIGIT),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 };
/** A repetition of more would take too many states. */
const MAX_REPEATS = 10_000;

/** Contents of JSON strings in which `pattern` is found; as everywhere in JSON Schema, it is anchored only where it says so. */
export function patternLanguage(json: JsonLanguage, pattern: string): Expression {
  try {
    new RegExp(pattern, 'u');
  } catch (cause) {
    throw new PatternError(`is not a regular expression: ${(cause as Error).message}`, { cause });
  }
  const reader = createReader(json, pattern);
  const found = reader.alternatives(true);
  if (!reader.atEnd()) throw new PatternError(`has an unexpected '${reader.peek()}' at ${reader.position()}`);
  return found;
}

interface Reader {
  alternatives(outermost: boolean): Expression;
  atEnd(): boolean;
  peek(): string | undefined;
  position(): number;
}

function createReader(json: JsonLanguage, pattern: string): Reader {
  const { language } = json;
  const source = [...pattern];
  let at = 0;
  const peek = () => source[at];
  const take = (expected: string): boolean => {
    if (
      !source
        .slice(at, at + expected.length)
        .join('')
        .startsWith(expected)
    )
      return false;
    at += expected.length;
    return true;
  };
  const anything = language.repeat(json.characters(EVERYTHING), 0, Number.POSITIVE_INFINITY);

  const alternatives = (outermost: boolean): Expression => {
    const branches = [branch(outermost)];
    while (take('|')) branches.push(branch(outermost));
    return language.either(...branches);
  };
  /** `^` and `$` at the ends of the whole pattern's branches; what is not anchored may have anything around it. */
  const branch = (outermost: boolean): Expression => {
    const parts: Expression[] = [];
    const begins = outermost && take('^');
    let ends = false;
    for (let next = peek(); next !== undefined && next !== '|' && next !== ')'; next = peek()) {
      if (outermost && next === '$') {
        at += 1;
        ends = true;
        if (peek() !== undefined && peek() !== '|')
          throw new PatternError("has a '$' that is not at its end");
      } else parts.push(quantified());
    }
    if (!outermost) return language.sequence(...parts);
    return language.sequence(...(begins ? [] : [anything]), ...parts, ...(ends ? [] : [anything]));
  };
  const quantified = (): Expression => {
    const atom = readAtom();
    const [min, max] = quantifier();
    if (min > MAX_REPEATS || (max > MAX_REPEATS && max !== Number.POSITIVE_INFINITY))
      throw new PatternError(`repeats something more than ${MAX_REPEATS} times`);
    take('?'); // lazy or greedy: the same texts
    return language.repeat(atom, min, max);
  };
  const quantifier = (): [min: number, max: number] => {
    if (take('*')) return [0, Number.POSITIVE_INFINITY];
    if (take('+')) return [1, Number.POSITIVE_INFINITY];
    if (take('?')) return [0, 1];
    const counted = /^\{(\d+)(?:(,)(\d*))?\}/.exec(source.slice(at, at + 32).join(''));
    if (!counted) return [1, 1];
    at += counted[0].length;
    const min = Number(counted[1]);
    if (!counted[2]) return [min, min];
    return [min, counted[3] ? Number(counted[3]) : Number.POSITIVE_INFINITY];
  };
  const readAtom = (): Expression => {
    if (take('(')) return group();
    if (take('[')) return json.characters(readClass());
    if (take('.')) return json.characters(complement(LINE_ENDS));
    if (peek() === '^' || peek() === '$')
      throw new PatternError(`has a '${peek()}' that is not at an end of the whole pattern`);
    return json.characters(take('\\') ? escaped() : single(source[at++]!));
  };
  const group = (): Expression => {
    if (take('?') && !take(':')) {
      const name = /^<[^=!>][^>]*>/.exec(source.slice(at).join(''));
      if (!name) throw new PatternError('looks ahead or behind, which is not served');
      at += [...name[0]].length;
    }
    const inside = alternatives(false);
    take(')');
    return inside;
  };
  /** After the backslash. */
  const escaped = (): Ranges => {
    const letter = source[at++]!;
    if (CLASSES[letter]) return CLASSES[letter];
    if (letter in CONTROLS) return [[CONTROLS[letter]!, CONTROLS[letter]!]];
    if (letter === 'x' || letter === 'u' || letter === 'c') return [codePoint(letter)];
    if (/[a-zA-Z1-9]/.test(letter)) throw new PatternError(`uses '\\${letter}', which is not served`);
    return single(letter);
  };
  const codePoint = (letter: string): [number, number] => {
    const rest = source.slice(at, at + 10).join('');
    const read = { x: /^([0-9a-fA-F]{2})/, u: /^(?:\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{4}))/, c: /^([a-zA-Z])/ }[
      letter
    ]!.exec(rest)!;
    at += read[0].length;
    const code = letter === 'c' ? read[1]!.charCodeAt(0) % 32 : Number.parseInt(read[1] ?? read[2]!, 16);
    if (code >= 0xd800 && code <= 0xdfff) throw new PatternError('names half of a surrogate pair');
    return [code, code];
  };
  const readClass = (): Ranges => {
    const negated = take('^');
    const ranges: [number, number][] = [];
    while (!take(']')) {
      const first = classAtom();
      if (first.length === 1 && peek() === '-' && source[at + 1] !== ']') {
        at += 1;
        ranges.push([first[0]![0], classAtom()[0]![1]]);
      } else for (const [a, b] of first) ranges.push([a, b]);
    }
    return negated ? complement(ranges) : ranges;
  };
  const classAtom = (): Ranges => {
    if (!take('\\')) return single(source[at++]!);
    if (take('b')) return [[8, 8]];
    if (take('-')) return single('-');
    return escaped();
  };
  return { alternatives, atEnd: () => at === source.length, peek, position: () => at };
}

const single = (character: string): Ranges => [[character.codePointAt(0)!, character.codePointAt(0)!]];
