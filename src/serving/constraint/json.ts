// Languages for JSON: values, strings, numbers, objects, arrays. Independent of schemas.
//
// Whitespace between tokens is a space, or a newline with limited indentation: as models write JSON, but never unbounded.
import type { Expression, Language, Ranges } from './language.ts';

export interface Member {
  name: string;
  value: Expression;
  required: boolean;
}

export interface JsonLanguage {
  readonly language: Language;
  /** Any value. */
  readonly value: Expression;
  /** Any object. */
  readonly object: Expression;
  readonly string: Expression;
  /** Any character in a string, possibly escaped; each is one code point. */
  readonly character: Expression;
  readonly integer: Expression;
  readonly number: Expression;
  readonly digit: Expression;
  /** Any unescaped character. */
  readonly codePoint: Expression;
  /** String characters from ranges of code points, with one spelling each. */
  characters(ranges: Ranges): Expression;
  /** Plain bytes. */
  text(text: string): Expression;
  quoted(content: Expression): Expression;
  /** A value, spelled as by JSON.stringify. */
  literal(value: unknown): Expression;
  array(item: Expression, min: number, max: number): Expression;
  /** Members in this order, then, if `others` is given, members with other names. */
  members(members: readonly Member[], others: Expression | null): Expression;
}

/** A double represents all decimals of up to this many digits distinctly. */
export const MAX_DIGITS = 15;
const MAX_SPACES = 24;
const MAX_TABS = 8;
const SURROGATES: Ranges = [[0xd800, 0xdfff]];
const MAX_CODE_POINT = 0x10ffff;

/** Two-character escapes. */
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

export function jsonLanguage(language: Language): JsonLanguage {
  const texts = textLanguage(language);
  const numbers = numberLanguage(language, texts);
  const containers = containerLanguage(language, texts);
  const { string, text } = texts;
  let anyValue: Expression = language.nothing;
  const value = language.named(() => anyValue);
  const object = containers.members([], value);
  const array = containers.array(value, 0, Number.POSITIVE_INFINITY);
  const constants = ['true', 'false', 'null'].map(text);
  anyValue = language.either(object, array, string, numbers.number, ...constants);
  return { language, value, object, ...texts, ...numbers, ...containers };
}

type TextLanguage = Pick<
  JsonLanguage,
  'text' | 'characters' | 'character' | 'codePoint' | 'quoted' | 'string' | 'literal'
>;

function textLanguage(language: Language): TextLanguage {
  const { symbols, sequence, either, repeat } = language;
  const text = (value: string): Expression =>
    sequence(...[...Buffer.from(value, 'utf8')].map(byte => symbols([[byte, byte]])));
  const escaped = (ranges: Ranges): Expression[] =>
    [...Array(32).keys(), 34, 92]
      .filter(code => ranges.some(([first, last]) => code >= first && code <= last))
      .map(code => text(ESCAPES[String.fromCharCode(code)] ?? `\\u${code.toString(16).padStart(4, '0')}`));
  const spelled = (ranges: Ranges): Expression =>
    either(...utf8(ranges).map(bytes => sequence(...bytes.map(range => symbols([range])))));
  const characters = (ranges: Ranges): Expression =>
    either(spelled(without(ranges, [[0, 31], [34, 34], [92, 92], ...SURROGATES])), ...escaped(ranges));
  const codePoint = spelled(without([[0, MAX_CODE_POINT]], SURROGATES));
  const character = either(characters([[32, MAX_CODE_POINT]]), freeEscapes(language, text));
  const quoted = (content: Expression): Expression => sequence(text('"'), content, text('"'));
  const string = quoted(repeat(character, 0, Number.POSITIVE_INFINITY));
  return {
    text,
    characters,
    character,
    codePoint,
    quoted,
    string,
    literal: value => text(JSON.stringify(value)),
  };
}

type NumberLanguage = Pick<JsonLanguage, 'digit' | 'integer' | 'number'>;

function numberLanguage(language: Language, { text }: TextLanguage): NumberLanguage {
  const { symbols, sequence, either, repeat, empty } = language;
  const optional = (...parts: Expression[]): Expression => either(sequence(...parts), empty);
  const digit = symbols([[48, 57]]);
  const natural = either(text('0'), sequence(symbols([[49, 57]]), repeat(digit, 0, MAX_DIGITS - 1)));
  const integer = sequence(optional(text('-')), natural);
  const fraction = optional(text('.'), repeat(digit, 1, MAX_DIGITS));
  const sign = optional(either(text('+'), text('-')));
  const exponent = optional(either(text('e'), text('E')), sign, repeat(digit, 1, 2));
  return { digit, integer, number: sequence(integer, fraction, exponent) };
}

type ContainerLanguage = Pick<JsonLanguage, 'array' | 'members'>;

function containerLanguage(language: Language, texts: TextLanguage): ContainerLanguage {
  const { symbols, sequence, either, repeat, empty, nothing } = language;
  const { text, literal } = texts;
  const indent = either(repeat(symbols([[32, 32]]), 0, MAX_SPACES), repeat(symbols([[9, 9]]), 0, MAX_TABS));
  const space = either(empty, text(' '), sequence(text('\n'), indent));
  const comma = sequence(space, text(','), space);
  const colon = sequence(space, text(':'), space);
  const enclosed = (open: string, content: Expression, close: string): Expression =>
    content === empty ? text(open + close) : sequence(text(open), space, content, space, text(close));
  const list = (item: Expression, min: number, max: number): Expression => {
    if (max < min) return nothing;
    if (max === 0) return empty;
    const some = sequence(item, repeat(sequence(comma, item), Math.max(0, min - 1), max - 1));
    return min === 0 ? either(some, empty) : some;
  };
  return {
    array: (item, min, max) => enclosed('[', list(item, min, max), ']'),
    members(named, others) {
      const other = others && sequence(otherName(language, texts, named), colon, others);
      const more = other ? repeat(sequence(comma, other), 0, Number.POSITIVE_INFINITY) : empty;
      // What may follow the members up to i if none (or at least one) of them is present.
      let [first, later] = [other ? either(sequence(other, more), empty) : empty, more];
      for (const { name, value, required } of [...named].reverse()) {
        const member = sequence(literal(name), colon, value);
        const [begins, follows] = [sequence(member, later), sequence(comma, member, later)];
        [first, later] = required ? [begins, follows] : [either(begins, first), either(follows, later)];
      }
      return enclosed('{', first, '}');
    },
  };
}

/** Names have a single spelling, so that a taken name cannot reappear in another one. */
function otherName(language: Language, texts: TextLanguage, named: readonly Member[]): Expression {
  const { characters, quoted, literal } = texts;
  const name = quoted(language.repeat(characters([[0, MAX_CODE_POINT]]), 0, Number.POSITIVE_INFINITY));
  if (named.length === 0) return name;
  return language.both(name, language.not(language.either(...named.map(each => literal(each.name)))));
}

/** Alternative spellings of characters by escapes; surrogates only in pairs (`\ud83d\ude00`). */
function freeEscapes(
  { symbols, sequence, either, repeat }: Language,
  text: (value: string) => Expression,
): Expression {
  const hex = symbols([
    [48, 57],
    [65, 70],
    [97, 102],
  ]);
  const [dD, notD] = [
    symbols([
      [68, 68],
      [100, 100],
    ]),
    symbols([
      [48, 57],
      [65, 67],
      [69, 70],
      [97, 99],
      [101, 102],
    ]),
  ];
  const unit = (first: Expression): Expression => sequence(text('\\u'), first);
  const whole = unit(
    either(sequence(notD, repeat(hex, 3, 3)), sequence(dD, symbols([[48, 55]]), repeat(hex, 2, 2))),
  );
  const high = unit(
    sequence(
      dD,
      symbols([
        [56, 57],
        [65, 66],
        [97, 98],
      ]),
      repeat(hex, 2, 2),
    ),
  );
  const low = unit(
    sequence(
      dD,
      symbols([
        [67, 70],
        [99, 102],
      ]),
      repeat(hex, 2, 2),
    ),
  );
  const short = sequence(text('\\'), either(...[...'"\\/bfnrt'].map(text)));
  return either(short, whole, sequence(high, low));
}

/** `ranges` minus `taken`, both in any order. */
export function without(ranges: Ranges, taken: Ranges): Ranges {
  let left = [...ranges];
  for (const [from, to] of taken)
    left = left.flatMap(([first, last]) =>
      (
        [
          [first, Math.min(last, from - 1)],
          [Math.max(first, to + 1), last],
        ] as const
      ).filter(([a, b]) => a <= b),
    );
  return left;
}

const UTF8_ENDS = [0x7f, 0x7ff, 0xffff, MAX_CODE_POINT];

/** Ranges of code points (without surrogates) as sequences of byte ranges. */
function utf8(ranges: Ranges): Ranges[] {
  return ranges.flatMap(range => {
    const pieces: Ranges[] = [];
    let [first] = range;
    for (const end of UTF8_ENDS) {
      const last = Math.min(range[1], end);
      if (first <= last) pieces.push(...sameLength(encode(first), encode(last)));
      first = Math.max(first, end + 1);
    }
    return pieces;
  });
}

const encode = (code: number): number[] => [...Buffer.from(String.fromCodePoint(code), 'utf8')];

/** Byte ranges from one encoded character to another of the same length. */
function sameLength(low: readonly number[], high: readonly number[]): Ranges[] {
  const [a, b] = [low[0]!, high[0]!];
  if (low.length === 1) return [[[a, b]]];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const under = (byte: number, rests: Ranges[]): Ranges[] => rests.map(rest => [[byte, byte], ...rest]);
  if (a === b) return under(a, sameLength(lowRest, highRest));
  const [least, most] = [lowRest.map(() => 0x80), highRest.map(() => 0xbf)];
  const full = least.map(() => [0x80, 0xbf] as const);
  const begins = lowRest.every(byte => byte === 0x80);
  const ends = highRest.every(byte => byte === 0xbf);
  const [from, to] = [begins ? a : a + 1, ends ? b : b - 1];
  return [
    ...(begins ? [] : under(a, sameLength(lowRest, most))),
    ...(from <= to ? [[[from, to] as const, ...full]] : []),
    ...(ends ? [] : under(b, sameLength(least, highRest))),
  ];
}
