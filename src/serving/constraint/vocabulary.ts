// Which tokens may come next: the tokens of a vocabulary as texts, sorted, walked through an automaton together. It knows
// no grammar and no logits.
import { type Automaton, DEAD } from './language.ts';

export interface Vocabulary {
  /** One more than the highest id. */
  readonly size: number;
  /** Ids in the order of their texts; those without a text are not among them. */
  readonly ids: Int32Array;
  /** Text i is symbols[starts[i] .. starts[i + 1]). */
  readonly symbols: Uint16Array;
  readonly starts: Int32Array;
  /** How many symbols text i begins with that text i - 1 begins with too. */
  readonly shared: Int32Array;
}

export interface VocabularySource {
  readonly vocabSize: number;
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

/** A token that is one symbol (256 and up) whatever its bytes are. Other special tokens are never chosen. */
export type Marks = ReadonlyMap<number, number>;

export function createVocabulary(source: VocabularySource, marks: Marks): Vocabulary {
  // As strings of a character for each symbol: they sort fast.
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

/** A bit for every token id. */
export type TokenSet = Uint32Array;

/** Tokens whose text the automaton can read from `state`. A symbol that texts share is read once. */
export function allowedTokens(vocabulary: Vocabulary, automaton: Automaton, state: number): TokenSet {
  const { ids, symbols, starts, shared } = vocabulary;
  const set = new Uint32Array(Math.ceil(vocabulary.size / 32));
  const states = [state];
  let reached = 0; // symbols of the present text that have been read; states[reached] is where they lead
  for (let i = 0; i < ids.length; i++) {
    if (shared[i]! > reached) continue; // the text fails where the one before it failed
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

/** Where a token leads. */
export function readToken(text: ArrayLike<number>, automaton: Automaton, state: number): number {
  let at = state;
  for (let i = 0; i < text.length && at !== DEAD; i++) at = automaton.step(at, text[i]!);
  return at;
}
