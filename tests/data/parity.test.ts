// A tokenizer of every kind that served models have, on hard texts, against Python's tokenizers (parity/make.py).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';

interface Tokens {
  ids: number[];
  whole: number[];
  decoded: string;
}

const FOLDER = join(import.meta.dirname, 'parity');
const golden: { texts: string[]; tokens: Record<string, Tokens[]> } = JSON.parse(
  readFileSync(join(FOLDER, 'tokens.json'), 'utf8'),
);

const kinds = await Promise.all(
  Object.entries(golden.tokens).map(async ([kind, tokens]) => {
    const tokenizer = await loadTokenizer(join(FOLDER, kind));
    const unknown = tokenizer.encode('\u{1F9FF}').at(-1);
    const isControl = (id: number) => tokenizer.isSpecial(id) && id !== unknown;
    return { kind, tokenizer, isControl, cases: golden.texts.map((text, i) => ({ text, ...tokens[i]! })) };
  }),
);

describe.each(kinds)('$kind', ({ tokenizer, isControl, cases }) => {
  /** Where Python makes a control token of a text that spells one, we do not: that is on purpose, see tokenizer.ts. */
  const plain = cases.filter(({ ids }) => !ids.some(isControl));

  test.each(plain)('encodes $text as Python does', ({ text, ids, whole }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.encodeWhole(text)).toEqual(whole);
  });

  test.each(cases)('decodes the tokens of $text as Python does', ({ ids, decoded }) => {
    expect(tokenizer.decode(ids, { special: true })).toBe(decoded);
  });

  test('no text becomes a control token', () => {
    const spelt = cases.filter(({ ids }) => ids.some(isControl));
    expect(spelt.length).toBeLessThanOrEqual(1);
    for (const { text } of spelt) expect(tokenizer.encode(text).filter(isControl)).toEqual([]);
  });
});

test('the texts reach what the library of the browser does otherwise', () => {
  // Each kind that a mend in src/data was made for sees the text that it was made for.
  for (const mended of ['ΑΣ ΟΔΥΣΣΕΥΣ', '\u{20000}', '\u0085', 'Z\u0351', '\ufeff'])
    expect(golden.texts.some(text => text.includes(mended))).toBe(true);
});
