// Text of a choice from tokens: characters over several tokens, special tokens, stop strings, and tokens beside their text.
import { beforeAll, describe, expect, test } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';
import { type ChoicePiece, createChoiceText, toCandidate } from '../../src/serving/choice.ts';
import { golden } from './serving.ts';

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(golden('llama-tiny'));
});

interface Options {
  stop?: string[];
  start?: number;
  logprobs?: boolean;
}

/** Pieces as they were emitted, after which token the text stopped (or -1), for tokens given one by one. */
function feed(tokens: readonly number[], { stop = [], start = 0, logprobs = true }: Options = {}) {
  const pieces: ChoicePiece[] = [];
  const text = createChoiceText(tokenizer, { stopStrings: stop, start, shown: new Set() }, piece =>
    pieces.push(piece),
  );
  const stoppedAt = tokens.findIndex(token =>
    text.push(token, logprobs ? { token, logprob: -1, top: [] } : null),
  );
  if (stoppedAt < 0) text.end();
  return {
    pieces,
    stoppedAt,
    text: pieces.map(piece => piece.text).join(''),
    names: pieces.flatMap(piece => piece.tokens.map(token => token.text)),
    offsets: pieces.flatMap(piece => piece.tokens.map(token => token.offset)),
  };
}

describe('without stop strings', () => {
  test('every token comes with its text, at its offset', () => {
    const tokens = tokenizer.encode('The quick brown');
    const { pieces, text, offsets } = feed(tokens, { start: 100 });
    expect(text).toBe('The quick brown');
    expect(pieces).toHaveLength(tokens.length);
    for (const piece of pieces) expect(piece.tokens[0]!.text).toBe(piece.text);
    expect(offsets[0]).toBe(100);
    expect(offsets.at(-1)).toBe(100 + text.length - pieces.at(-1)!.text.length);
  });

  test('a character of several tokens comes whole; its bytes are in its tokens', () => {
    const tokens = tokenizer.encode('a😀b');
    expect(tokens.length).toBeGreaterThan(4);
    const { pieces, text } = feed(tokens);
    expect(text).toBe('a😀b');
    const all = pieces.flatMap(piece => piece.tokens);
    expect(Buffer.from(all.flatMap(token => token.bytes)).toString('utf8')).toBe('a😀b');
    expect(all.map(token => token.text)).toEqual(['a', '\\xf0', '\\x9f', '\\x98', '\\x80', 'b']);
  });

  test('an unfinished character at the end is marked as such', () => {
    expect(feed(tokenizer.encode('a😀').slice(0, 3)).text).toBe('a\uFFFD');
  });

  test('special tokens have no text, but are tokens', () => {
    const [a] = tokenizer.encode('a');
    const { text, names } = feed([a!, 1, a!]);
    expect(text).toBe('aa');
    expect(names).toEqual(['a', '<|im_start|>', 'a']);
  });

  test('no tokens where no log-probabilities are asked for', () => {
    const { pieces } = feed(tokenizer.encode('The quick'), { logprobs: false });
    expect(pieces.every(piece => piece.tokens.length === 0 && piece.text !== '')).toBe(true);
  });
});

describe('with stop strings', () => {
  test('over token borders: nothing of it comes out, nor the tokens that begin in it', () => {
    const tokens = ['The', ' qu', 'ick', ' br'].flatMap(part => tokenizer.encode(part));
    const { text, stoppedAt, names, offsets } = feed(tokens, { stop: ['uick'] });
    expect(text).toBe('The q');
    expect(stoppedAt).toBeGreaterThan(0);
    expect(stoppedAt).toBeLessThan(tokens.length - 1);
    expect(names.join('').startsWith('The q')).toBe(true);
    expect(Math.max(...offsets)).toBeLessThan(text.length);
  });

  test('what only looks like one is held back until it is none, tokens in order', () => {
    const tokens = [...'xenxend'].flatMap(letter => tokenizer.encode(letter));
    const { pieces, text, names } = feed(tokens, { stop: ['end', 'ens'] });
    expect(pieces.map(piece => piece.text)).toEqual(['x', 'enx']);
    expect(text).toBe('xenx');
    expect(names).toEqual(['x', 'e', 'n', 'x']);
  });

  test('what is held back at the end comes out', () => {
    const { text, names } = feed(
      [...'see'].flatMap(letter => tokenizer.encode(letter)),
      { stop: ['eel'] },
    );
    expect(text).toBe('see');
    expect(names).toEqual(['s', 'e', 'e']);
  });
});

test('a token by itself: text where it is text, escaped bytes where it is not', () => {
  const [first] = tokenizer.encode('é');
  expect(toCandidate(tokenizer, first!, -2)).toEqual({ text: '\\xc3', bytes: [0xc3], logprob: -2 });
  expect(toCandidate(tokenizer, tokenizer.encode('T')[0]!, null)).toEqual({
    text: 'T',
    bytes: [84],
    logprob: null,
  });
});
