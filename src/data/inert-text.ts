// Prevents special tokens in user text from becoming control tokens: a mark inserted before rendering breaks their spelling, and is
// removed when the text is tokenized. Does not tokenize.
import { alternation } from './alternation.ts';

/** A Unicode noncharacter, not meant for text. Doubled if a message contains it nevertheless. */
const MARK = '\uFDD0';

export interface InertText {
  /** Breaks the spelling of special tokens in user text. */
  protect(text: string): string;
  /** `protect` for all strings and keys in a JSON value. */
  protectAll<T>(value: T): T;
  /** Undoes `protect` on rendered text, or on any part of it that does not split a doubled mark. */
  restore(text: string): string;
}

export function inertText(specialTokens: readonly string[]): InertText {
  // A single-character token cannot be broken up; no known tokenizer has one.
  const pattern = alternation(specialTokens.filter(token => token.length > 1));

  const protect = (text: string): string => {
    const doubled = text.includes(MARK) ? text.replaceAll(MARK, MARK + MARK) : text;
    if (pattern === null) return doubled;
    // Breaking one occurrence may leave another that overlaps it.
    let broken = doubled;
    while (broken.search(pattern) >= 0)
      broken = broken.replace(pattern, token => token[0] + MARK + token.slice(1));
    return broken;
  };
  const protectAll = <T>(value: T): T => mapStrings(value, protect) as T;
  const restore = (text: string): string =>
    text.includes(MARK) ? text.replace(/\uFDD0(\uFDD0?)/g, (_, second) => second) : text;
  return { protect, protectAll, restore };
}

function mapStrings(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map(item => mapStrings(item, change));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [change(key), mapStrings(item, change)]),
  );
}
