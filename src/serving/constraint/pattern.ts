// Compiles JSON Schema's `pattern` to a language: the regular subset of ECMA-262 regular expressions.
import { type JsonLanguage, without } from './json.ts';
import type { Expression, Ranges } from './language.ts';

/** Thrown for unsupported or invalid patterns; the message continues a sentence with the pattern as subject. */
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
/** More repetitions would need too many states. */
const MAX_REPEATS = 10_000;

/** Parser position in a pattern. */
interface Cursor {
  readonly json: JsonLanguage;
  /** Code points. */
  readonly source: readonly string[];
  at: number;
}

/** Contents of JSON strings that `pattern` matches; as in JSON Schema, it is not implicitly anchored. */
export function patternLanguage(json: JsonLanguage, pattern: string): Expression {
  try {
    new RegExp(pattern, 'u');
  } catch (cause) {
    throw new PatternError(`is not a regular expression: ${(cause as Error).message}`, { cause });
  }
  return alternatives({ json, source: [...pattern], at: 0 }, true);
}

const peek = ({ source, at }: Cursor): string | undefined => source[at];
const ahead = ({ source, at }: Cursor, length: number): string => source.slice(at, at + length).join('');

function take(cursor: Cursor, character: string): boolean {
  if (peek(cursor) !== character) return false;
  cursor.at += 1;
  return true;
}

function next(cursor: Cursor): string {
  const character = cursor.source[cursor.at]!;
  cursor.at += 1;
  return character;
}

function alternatives(cursor: Cursor, outermost: boolean): Expression {
  const read = outermost ? anchoredBranch : sequenceOf;
  const branches = [read(cursor)];
  while (take(cursor, '|')) branches.push(read(cursor));
  return cursor.json.language.either(...branches);
}

/** A top-level branch with optional `^` and `$`; an unanchored side allows any text. */
function anchoredBranch(cursor: Cursor): Expression {
  const { json } = cursor;
  const anything = json.language.repeat(json.characters(EVERYTHING), 0, Number.POSITIVE_INFINITY);
  const begins = take(cursor, '^');
  const content = sequenceOf(cursor);
  const ends = take(cursor, '$');
  if (peek(cursor) !== undefined && peek(cursor) !== '|') throw misplaced('$');
  return json.language.sequence(...(begins ? [] : [anything]), content, ...(ends ? [] : [anything]));
}

/** Up to the end of a branch. */
function sequenceOf(cursor: Cursor): Expression {
  const parts: Expression[] = [];
  while (!['|', ')', '$', undefined].includes(peek(cursor))) parts.push(quantified(cursor));
  return cursor.json.language.sequence(...parts);
}

const misplaced = (anchor: string): PatternError =>
  new PatternError(`has a '${anchor}' that is not at an end of the whole pattern`);

function quantified(cursor: Cursor): Expression {
  const content = atom(cursor);
  const [min, max] = quantifier(cursor);
  if (min > MAX_REPEATS || (max > MAX_REPEATS && max !== Number.POSITIVE_INFINITY))
    throw new PatternError(`repeats something more than ${MAX_REPEATS} times`);
  take(cursor, '?'); // lazy or greedy: the same language
  return cursor.json.language.repeat(content, min, max);
}

function quantifier(cursor: Cursor): [min: number, max: number] {
  if (take(cursor, '*')) return [0, Number.POSITIVE_INFINITY];
  if (take(cursor, '+')) return [1, Number.POSITIVE_INFINITY];
  if (take(cursor, '?')) return [0, 1];
  const counted = /^\{(\d+)(?:(,)(\d*))?\}/.exec(ahead(cursor, 32));
  if (!counted) return [1, 1];
  cursor.at += counted[0].length;
  const min = Number(counted[1]);
  if (!counted[2]) return [min, min];
  return [min, counted[3] ? Number(counted[3]) : Number.POSITIVE_INFINITY];
}

function atom(cursor: Cursor): Expression {
  const { json } = cursor;
  if (take(cursor, '(')) return group(cursor);
  if (take(cursor, '[')) return json.characters(characterClass(cursor));
  if (take(cursor, '.')) return json.characters(complement(LINE_ENDS));
  if (take(cursor, '\\')) return json.characters(escaped(cursor));
  if (peek(cursor) === '^') throw misplaced('^');
  return json.characters(single(next(cursor)));
}

function group(cursor: Cursor): Expression {
  if (take(cursor, '?') && !take(cursor, ':')) {
    const name = /^<[^=!>][^>]*>/.exec(ahead(cursor, 200));
    if (!name) throw new PatternError('uses look-around, which is not supported');
    cursor.at += [...name[0]].length;
  }
  const inside = alternatives(cursor, false);
  if (peek(cursor) === '$') throw misplaced('$');
  take(cursor, ')');
  return inside;
}

/** After the backslash. */
function escaped(cursor: Cursor): Ranges {
  const letter = next(cursor);
  if (CLASSES[letter]) return CLASSES[letter];
  if (letter in CONTROLS) return [[CONTROLS[letter]!, CONTROLS[letter]!]];
  if (CODES[letter]) return codePoint(cursor, letter);
  if (/[a-zA-Z1-9]/.test(letter)) throw new PatternError(`uses '\\${letter}', which is not supported`);
  return single(letter);
}

/** What follows the letter of a character code escape. */
const CODES: Readonly<Record<string, RegExp>> = {
  x: /^([0-9a-fA-F]{2})/,
  u: /^(?:\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{4}))/,
  c: /^([a-zA-Z])/,
};

function codePoint(cursor: Cursor, letter: string): Ranges {
  const read = CODES[letter]!.exec(ahead(cursor, 10))!;
  cursor.at += read[0].length;
  const code = letter === 'c' ? read[1]!.charCodeAt(0) % 32 : Number.parseInt(read[1] ?? read[2]!, 16);
  if (code >= 0xd800 && code <= 0xdfff) throw new PatternError('names half of a surrogate pair');
  return [[code, code]];
}

/** After the bracket. */
function characterClass(cursor: Cursor): Ranges {
  const negated = take(cursor, '^');
  const ranges: (readonly [number, number])[] = [];
  while (!take(cursor, ']')) {
    const first = classAtom(cursor);
    const isRange = first.length === 1 && peek(cursor) === '-' && cursor.source[cursor.at + 1] !== ']';
    if (isRange) {
      cursor.at += 1;
      ranges.push([first[0]![0], classAtom(cursor)[0]![1]]);
    } else ranges.push(...first);
  }
  return negated ? complement(ranges) : ranges;
}

function classAtom(cursor: Cursor): Ranges {
  if (!take(cursor, '\\')) return single(next(cursor));
  if (take(cursor, 'b')) return [[8, 8]];
  return escaped(cursor);
}

const single = (character: string): Ranges => [[character.codePointAt(0)!, character.codePointAt(0)!]];
