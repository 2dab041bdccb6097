// Constrained decoding: masks the logits of tokens that the grammar does not allow next. Does not sample.
import { type Automaton, LanguageTooLarge } from './language.ts';
import { allowedTokens, readToken, type TokenSet, type Vocabulary } from './vocabulary.ts';

/** A grammar over the tokens of one model, shared by all requests that use it. */
export interface TokenGrammar {
  readonly automaton: Automaton;
  allowed(state: number): TokenSet;
  textOf(token: number): Uint16Array;
}

/** Decoding state of one choice. */
export interface Constraint {
  /** Masks disallowed tokens with -Infinity, in place. */
  restrict(logits: Float32Array): void;
  /** Advances by the sampled token. Returns true if nothing may follow it. */
  accept(token: number): boolean;
}

/** Cached token sets: about 19 KB each for a vocabulary of 150,000. */
const MAX_SETS = 1024;

export function createTokenGrammar(vocabulary: Vocabulary, automaton: Automaton): TokenGrammar {
  const sets = new Map<number, TokenSet>();
  const positions = new Map(Array.from(vocabulary.ids, (id, i) => [id, i]));
  return {
    automaton,
    allowed(state) {
      const known = sets.get(state);
      if (known) return known;
      if (sets.size >= MAX_SETS) sets.clear();
      const set = allowedTokens(vocabulary, automaton, state);
      sets.set(state, set);
      return set;
    },
    textOf(token) {
      const i = positions.get(token);
      if (i === undefined) return new Uint16Array(0);
      return vocabulary.symbols.subarray(vocabulary.starts[i], vocabulary.starts[i + 1]);
    },
  };
}

/** Thrown when the grammar can no longer be enforced; the message says why. */
export class ConstraintFailure extends Error {}

/** `stopTokens` are allowed in final states. */
export function createConstraint(grammar: TokenGrammar, stopTokens: readonly number[]): Constraint {
  const { automaton } = grammar;
  let state = automaton.start;
  return {
    restrict(logits) {
      const allowed = orFail(() => grammar.allowed(state));
      const mayEnd = automaton.isFinal(state);
      let left = mayEnd && stopTokens.length > 0;
      const kept = mayEnd ? stopTokens.map(token => [token, logits[token]!] as const) : [];
      for (let word = 0; word * 32 < logits.length; word++) {
        const bits = allowed[word] ?? 0;
        if (bits !== 0) left = true;
        if (bits === -1 >>> 0) continue;
        const end = Math.min(logits.length, word * 32 + 32);
        for (let id = word * 32; id < end; id++) if (!((bits >>> (id & 31)) & 1)) logits[id] = -Infinity;
      }
      for (const [token, logit] of kept) logits[token] = logit;
      if (!left) throw new ConstraintFailure('it asks for characters that this model has no tokens for');
    },
    accept(token) {
      if (stopTokens.includes(token)) return true;
      state = orFail(() => readToken(grammar.textOf(token), automaton, state));
      return automaton.isFinal(state) && orFail(() => grammar.allowed(state)).every(bits => bits === 0);
    },
  };
}

/** Reading may create states, up to a limit. */
function orFail<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof LanguageTooLarge)) throw cause;
    throw new ConstraintFailure('it takes more states than there is room for', { cause });
  }
}
