// Languages of numbers between bounds. Independent of schemas.
import { type JsonLanguage, MAX_DIGITS } from './json.ts';
import type { Expression } from './language.ts';

export interface Bounds {
  minimum: number;
  maximum: number;
  exclusiveMinimum: boolean;
  exclusiveMaximum: boolean;
}

const LARGEST = 10 ** MAX_DIGITS - 1;
/** Integer digits of a decimal bounded on one side only; with those of its fraction, a double still holds it exactly. */
const WHOLE_DIGITS = 9;

/** Integers within the bounds, of at most 15 digits. */
export function integersBetween(json: JsonLanguage, bounds: Bounds): Expression {
  const low = Math.max(
    -LARGEST,
    bounds.exclusiveMinimum ? Math.floor(bounds.minimum) + 1 : Math.ceil(bounds.minimum),
  );
  const high = Math.min(
    LARGEST,
    bounds.exclusiveMaximum ? Math.ceil(bounds.maximum) - 1 : Math.floor(bounds.maximum),
  );
  const { language, text } = json;
  return language.either(
    low < 0 ? language.sequence(text('-'), naturals(json, Math.max(1, -high), -low)) : language.nothing,
    naturals(json, Math.max(0, low), high),
  );
}

/** Whole numbers from `low` to `high`, without leading zeros. */
function naturals(json: JsonLanguage, low: number, high: number): Expression {
  const { either } = json.language;
  if (low > high) return json.language.nothing;
  const [least, most] = [String(low), String(high)];
  const lengths = Array.from({ length: most.length - least.length + 1 }, (_, i) => least.length + i);
  return either(
    ...lengths.map(length =>
      digitsBetween(
        json,
        length === least.length ? least : `1${'0'.repeat(length - 1)}`,
        length === most.length ? most : '9'.repeat(length),
      ),
    ),
  );
}

/** Both bounds have the same number of digits. */
function digitsBetween(json: JsonLanguage, low: string, high: string): Expression {
  const { language } = json;
  if (/^0*$/.test(low) && /^9*$/.test(high)) return language.repeat(json.digit, low.length, low.length);
  const [a, b] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  const under = (digit: number, from: string, to: string): Expression =>
    language.sequence(digits(json, digit, digit), digitsBetween(json, from, to));
  if (a === b) return under(a, low.slice(1), high.slice(1));
  return language.either(
    under(a, low.slice(1), '9'.repeat(rest)),
    language.sequence(digits(json, a + 1, b - 1), language.repeat(json.digit, rest, rest)),
    under(b, '0'.repeat(rest), high.slice(1)),
  );
}

const digits = ({ language }: JsonLanguage, first: number, last: number): Expression =>
  first > last ? language.nothing : language.symbols([[48 + first, 48 + last]]);

/** Decimals without an exponent. Throws RangeError for bounds that are not plain decimals of at most 15 digits. */
export function decimalsBetween(json: JsonLanguage, bounds: Bounds): Expression {
  const { language, text } = json;
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = bounds;
  const limit = 10 ** WHOLE_DIGITS;
  const low = { value: Math.max(minimum, -limit), open: exclusiveMinimum };
  const high = { value: Math.min(maximum, limit), open: exclusiveMaximum };
  const positive = from0(json, low.value < 0 ? { value: 0, open: false } : low, high);
  if (low.value >= 0) return positive;
  const mirrored = { value: -low.value, open: low.open };
  const least =
    high.value < 0
      ? { value: -high.value, open: high.open }
      : { value: 0, open: high.value === 0 && high.open };
  return language.either(language.sequence(text('-'), from0(json, least, mirrored)), positive);
}

interface Bound {
  value: number;
  /** Exclusive. */
  open: boolean;
}

/** Non-negative decimals from `low` to `high`. */
function from0(json: JsonLanguage, low: Bound, high: Bound): Expression {
  const { language } = json;
  if (low.value > high.value) return language.nothing;
  const [from, to] = [split(low.value), split(high.value)];
  const places = Math.max(MAX_DIGITS - String(to.whole).length, from.fraction.length, to.fraction.length);
  const least = fractionAbove(json, from.fraction, low.open);
  const most = fractionBelow(json, to.fraction, high.open);
  const decimal = (first: number, last: number, fraction: Fraction): Expression =>
    language.sequence(naturals(json, first, last), fractionPart(json, fraction, places));
  if (from.whole === to.whole)
    return decimal(from.whole, to.whole, {
      digits: language.both(least.digits, most.digits),
      optional: least.optional && most.optional,
    });
  return language.either(
    decimal(from.whole, from.whole, least),
    decimal(from.whole + 1, to.whole - 1, fractionAbove(json, '', false)),
    decimal(to.whole, to.whole, most),
  );
}

function split(value: number): { whole: number; fraction: string } {
  const [whole, fraction = ''] = String(value).split('.') as [string, string?];
  if (/e/.test(String(value)) || whole.length + fraction.length > MAX_DIGITS)
    throw new RangeError(`${value} is not a plain decimal of at most ${MAX_DIGITS} digits`);
  return { whole: Number(whole), fraction };
}

/** Digits after the decimal point, any number of them; `optional`: the point may be omitted. */
interface Fraction {
  digits: Expression;
  optional: boolean;
}

function fractionPart(
  { language, text, digit }: JsonLanguage,
  { digits, optional }: Fraction,
  places: number,
): Expression {
  const point = language.sequence(text('.'), language.both(digits, language.repeat(digit, 1, places)));
  return optional ? language.either(language.empty, point) : point;
}

/** Digits s with 0.s >= 0.`bound`, or > if `open`. `bound` has no trailing zero. */
function fractionAbove(json: JsonLanguage, bound: string, open: boolean): Fraction {
  const { language, digit } = json;
  const any = language.repeat(digit, 0, Number.POSITIVE_INFINITY);
  if (bound !== '') {
    const first = Number(bound[0]);
    const greater = language.sequence(digits(json, first + 1, 9), any);
    const equal = language.sequence(
      digits(json, first, first),
      fractionAbove(json, bound.slice(1), open).digits,
    );
    return { digits: language.either(greater, equal), optional: false };
  }
  if (!open) return { digits: any, optional: true };
  const zeros = language.repeat(digits(json, 0, 0), 0, Number.POSITIVE_INFINITY);
  return { digits: language.sequence(zeros, digits(json, 1, 9), any), optional: false };
}

/** Digits s with 0.s <= 0.`bound`, or < if `open`. */
function fractionBelow(json: JsonLanguage, bound: string, open: boolean): Fraction {
  const { language, digit } = json;
  if (bound !== '') {
    const first = Number(bound[0]);
    const any = language.repeat(digit, 0, Number.POSITIVE_INFINITY);
    const less = language.sequence(digits(json, 0, first - 1), any);
    const equal = language.sequence(
      digits(json, first, first),
      fractionBelow(json, bound.slice(1), open).digits,
    );
    return { digits: language.either(language.empty, less, equal), optional: true };
  }
  if (open) return { digits: language.nothing, optional: false };
  return { digits: language.repeat(digits(json, 0, 0), 0, Number.POSITIVE_INFINITY), optional: true };
}
