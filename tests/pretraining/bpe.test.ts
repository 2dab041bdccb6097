import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, test } from 'vitest';
import { byteAlphabet, countPieces, tokenizerJson, trainBpe } from '../../src/pretraining/bpe.ts';

const special = ['<s>', '</s>'];

describe('byte-level BPE', () => {
  test('pieces are words with the space before them, digits, punctuation', () => {
    const counts = countPieces(["It's 42, it is.", 'it is']);
    expect(Object.fromEntries(counts)).toEqual({
      It: 1,
      "'s": 1,
      ' 42': 1,
      ',': 1,
      ' it': 1,
      ' is': 2,
      '.': 1,
      it: 1,
    });
  });

  test('merges the most frequent pair first; equal ones in order', () => {
    // by hand: l+o 7, o+w 5+... "low" 5 times, "lot" 2 times, "new" 3 times
    const counts = new Map([
      ['low', 5],
      ['lot', 2],
      ['new', 3],
    ]);
    const { merges, tokens } = trainBpe(counts, special, 2 + 256 + 4);
    expect(merges).toEqual([
      ['l', 'o'],
      ['lo', 'w'],
      ['e', 'w'],
      ['n', 'ew'],
    ]);
    expect(tokens.slice(0, 2)).toEqual(special);
    expect(tokens.slice(-4)).toEqual(['lo', 'low', 'ew', 'new']);
  });

  test('stops when nothing comes twice', () => {
    expect(trainBpe(new Map([['ab', 1]]), special, 1000).tokens).toHaveLength(2 + 256);
  });

  test('the alphabet has 256 different printable characters', () => {
    expect(new Set(byteAlphabet()).size).toBe(256);
    expect(byteAlphabet()[32]).toBe('Ġ');
    expect(byteAlphabet()[65]).toBe('A');
  });

  test('the tokenizer.json gives any text back, and puts the beginning before it', () => {
    const vocabulary = trainBpe(countPieces(['the cat sat on the mat', 'the cat']), special, 300);
    const tokenizer = new Tokenizer(tokenizerJson(vocabulary, special, '<s>') as never, {});
    for (const text of ['the cat', 'Straße 😀 \n\t  end', 'x']) {
      const { ids } = tokenizer.encode(text);
      expect(ids[0]).toBe(0);
      expect(tokenizer.decode(ids, { skip_special_tokens: true })).toBe(text);
    }
    expect(tokenizer.encode('the cat').tokens).toEqual(['<s>', 'the', 'Ġcat']);
  });
});
