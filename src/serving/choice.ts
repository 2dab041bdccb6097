// The text of one choice while it is generated: decoding, stop strings, and which tokens belong to which text. It generates nothing.
import type { Tokenizer } from '../data/tokenizer.ts';
import type { TokenLogprob } from './logprobs.ts';
import type { Candidate, TokenPiece } from './protocol.ts';
import { createStopScanner } from './stop.ts';

export interface ChoicePiece {
  text: string;
  tokens: TokenPiece[];
}

export interface ChoiceText {
  /** Takes the next token; true when a stop string is complete. */
  push(token: number, logprob: TokenLogprob | null): boolean;
  /** Lets go what was held back. To be called once, unless `push` returned true. */
  end(): void;
}

/** The text of a token by itself: its bytes escaped where they are no whole characters. */
export function toCandidate(tokenizer: Tokenizer, token: number, logprob: number | null): Candidate {
  const bytes = tokenizer.tokenBytes(token);
  const text = Buffer.from(bytes).toString('utf8');
  const whole = !text.includes('\uFFFD');
  const escaped = () => Array.from(bytes, byte => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  return { text: whole ? text : escaped(), bytes: [...bytes], logprob };
}

export function toTokenPiece(tokenizer: Tokenizer, logprob: TokenLogprob, offset: number): TokenPiece {
  return {
    ...toCandidate(tokenizer, logprob.token, logprob.logprob),
    offset,
    top: logprob.top.map(each => toCandidate(tokenizer, each.token, each.logprob)),
  };
}

export interface ChoiceTextOptions {
  stopStrings: readonly string[];
  /** Length of the text that comes before (an echo). */
  start: number;
  /** Special tokens that have a text all the same: the marks of tool calls. */
  shown: ReadonlySet<number>;
}

/** `emit` is called with pieces in order. Special tokens have no text. */
export function createChoiceText(
  tokenizer: Tokenizer,
  { stopStrings, start, shown }: ChoiceTextOptions,
  emit: (piece: ChoicePiece) => void,
): ChoiceText {
  const decoder = tokenizer.streamDecoder({ special: true });
  const scanner = createStopScanner(stopStrings);
  let held: TokenPiece[] = [];
  let decoded = start;
  let emitted = start;

  /** Tokens go out with the first of their text; those that begin past it wait. */
  const release = (text: string, reached: (piece: TokenPiece) => boolean): void => {
    emitted += text.length;
    const tokens = held.filter(reached);
    held = held.filter(piece => !reached(piece));
    if (text !== '' || tokens.length > 0) emit({ text, tokens });
  };
  return {
    push(token, logprob) {
      const hidden = tokenizer.isSpecial(token) && !shown.has(token);
      const text = hidden ? '' : decoder.push(token);
      if (logprob) held.push(toTokenPiece(tokenizer, logprob, decoded));
      decoded += text.length;
      const scan = scanner.push(text);
      const whole = emitted + scan.text.length === decoded;
      release(scan.text, piece => (whole && !scan.stopped) || piece.offset < emitted);
      return scan.stopped;
    },
    end() {
      const last = scanner.push(decoder.end());
      release(last.text + (last.stopped ? '' : scanner.flush()), () => true);
    },
  };
}
