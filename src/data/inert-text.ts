// Keeps a user's text from acting as control tokens: a special token's spelling inside a message is broken by a mark
// before the template runs, and the mark is taken out when the text is tokenized. It does not tokenize.
import { alternation } from './alternation.ts';

/** A Unicode noncharacter: never text. Where a message holds it all the same, it is doubled. */
const MARK = '\uFDD0';

export interface InertText {
  /** Text of a user -> the same text with the spellings of special tokens broken. */
  protect(text: string): string;
  /** `protect` on every string and key of a JSON value. */
  protectAll<T>(value: T): T;
  /** Undoes `protect` on a rendered text or on any part of it that does not cut a mark in two. */
  restore(text: string): string;
}

export function inertText(specialTokens: readonly string[]): InertText {
  // A token of one character cannot be broken; no known tokenizer has one.
  const pattern = alternation(specialTokens.filter(token => token.length > 1));

  const protect = (text: string): string => {
    const doubled = text.includes(MARK) ? text.replaceAll(MARK, MARK + MARK) : text;
    if (pattern === null) return doubled;
    // Breaking one spelling may leave another that overlaps it, so until none is left.
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
