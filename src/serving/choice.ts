// The text of one choice during generation: detokenization, stop strings, and the text offsets of tokens.
import type { Tokenizer } from '../data/tokenizer.ts';
import type { TokenLogprob } from './logprobs.ts';
import type { Candidate, TokenPiece } from './protocol.ts';
import { createStopScanner } from './stop.ts';

export interface ChoicePiece {
  text: string;
  tokens: TokenPiece[];
}

export interface ChoiceText {
  /** Returns true when a stop string is complete. */
  push(token: number, logprob: TokenLogprob | null): boolean;
  /** Emits what was held back. To be called once, unless `push` returned true. */
  end(): void;
}

/** A single token as text; bytes that are not whole characters are escaped. */
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
  /** Length of the preceding text (an echo). */
  start: number;
  /** Special tokens that are decoded nevertheless: those of tool calls. */
  shown: ReadonlySet<number>;
}

/** Calls `emit` with pieces in order. Other special tokens have no text. */
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

  /** Tokens are emitted with the first character of their text; those that start later wait. */
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
