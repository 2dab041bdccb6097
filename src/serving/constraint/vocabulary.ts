// Finds the tokens that may come next by walking the sorted vocabulary through an automaton. Independent of grammars and
// logits.
import { type Automaton, DEAD } from './language.ts';

export interface Vocabulary {
  /** One more than the highest id. */
  readonly size: number;
  /** Ids sorted by text, without those that have none. */
  readonly ids: Int32Array;
  /** Text i is symbols[starts[i] .. starts[i + 1]). */
  readonly symbols: Uint16Array;
  readonly starts: Int32Array;
  /** Length of the common prefix of texts i and i - 1. */
  readonly shared: Int32Array;
}

export interface VocabularySource {
  readonly vocabSize: number;
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

/** Tokens treated as one symbol (256 and up) -> symbol. Other special tokens are never allowed. */
export type Marks = ReadonlyMap<number, number>;

export function createVocabulary(source: VocabularySource, marks: Marks): Vocabulary {
  // As strings with a character per symbol, which sort fast.
  const texts: { id: number; text: string }[] = [];
  for (let id = 0; id < source.vocabSize; id++) {
    const text = symbolsOf(source, marks, id);
    if (text !== '') texts.push({ id, text });
  }
  texts.sort((a, b) => (a.text < b.text ? -1 : 1));
  const starts = new Int32Array(texts.length + 1);
  for (const [i, { text }] of texts.entries()) starts[i + 1] = starts[i]! + text.length;
  const symbols = new Uint16Array(starts.at(-1)!);
  for (const [i, { text }] of texts.entries())
    for (let j = 0; j < text.length; j++) symbols[starts[i]! + j] = text.charCodeAt(j);
  return {
    size: source.vocabSize,
    ids: Int32Array.from(texts, ({ id }) => id),
    symbols,
    starts,
    shared: Int32Array.from(texts, ({ text }, i) => (i === 0 ? 0 : alike(texts[i - 1]!.text, text))),
  };
}

function symbolsOf(source: VocabularySource, marks: Marks, id: number): string {
  const mark = marks.get(id);
  if (mark !== undefined) return String.fromCharCode(mark);
  return source.isSpecial(id) ? '' : Buffer.from(source.tokenBytes(id)).toString('latin1');
}

function alike(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

/** Bit set of token ids. */
export type TokenSet = Uint32Array;

/** Tokens whose text the automaton accepts from `state`. Common prefixes are read once. */
export function allowedTokens(vocabulary: Vocabulary, automaton: Automaton, state: number): TokenSet {
  const { ids, symbols, starts, shared } = vocabulary;
  const set = new Uint32Array(Math.ceil(vocabulary.size / 32));
  const states = [state];
  let reached = 0; // symbols of the current text read so far; states[reached] is the state after them
  for (let i = 0; i < ids.length; i++) {
    if (shared[i]! > reached) continue; // fails in the prefix shared with the previous text
    reached = shared[i]!;
    const start = starts[i]!;
    const length = starts[i + 1]! - start;
    while (reached < length) {
      const next = automaton.step(states[reached]!, symbols[start + reached]!);
      if (next === DEAD) break;
      states[++reached] = next;
    }
    if (reached === length) set[ids[i]! >>> 5]! |= 1 << (ids[i]! & 31);
  }
  return set;
}

/** The state after a token. */
export function readToken(text: ArrayLike<number>, automaton: Automaton, state: number): number {
  let at = state;
  for (let i = 0; i < text.length && at !== DEAD; i++) at = automaton.step(at, text[i]!);
  return at;
}
