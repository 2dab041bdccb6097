// Marian's folders without a tokenizer.json: the tokens of transformers' MarianTokenizer for sources and for answers.
import { readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { answerForm } from '../../src/data/answers.ts';
import { readSentencePieces } from '../../src/data/sentencepiece.ts';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';
import { copyGolden } from '../models/folders.ts';

const folder = join(import.meta.dirname, '../golden/marian-tiny');

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(folder);
});

interface Translated {
  text: string;
  source: number[];
  target: number[];
  decoded: string;
}

const texts: Translated[] = JSON.parse(readFileSync(join(folder, 'texts.json'), 'utf8'));
const vocab: Record<string, number> = JSON.parse(readFileSync(join(folder, 'vocab.json'), 'utf8'));

describe.each(texts)('$text', ({ text, source, target, decoded }) => {
  test('as a source, by the pieces of its language', () => {
    expect(tokenizer.encodeWhole(text)).toEqual(source);
  });

  test('as an answer, by those of the other', () => {
    expect([...tokenizer.encode(text), tokenizer.eosId]).toEqual(target);
    // Python's takes spaces away at the end, which a stream of text has already written.
    expect(tokenizer.decode(target).trimEnd()).toBe(decoded);
  });
});

test('the two languages are cut differently', () => {
  expect(texts.some(({ source, target }) => source.join() !== target.join())).toBe(true);
});

test('special tokens are known though no file names them', () => {
  expect(tokenizer).toMatchObject({
    eosId: vocab['</s>'],
    padId: vocab['<pad>'],
    eosIds: [vocab['</s>']],
    vocabSize: Object.keys(vocab).length,
  });
});

test('a line is a source in one language and an answer in the other', () => {
  const pad = vocab['<pad>']!;
  const [example] = answerForm(pad, { source: 1, answer: 1 }).examples(
    { prompt: texts[0]!.text, completion: texts[0]!.text },
    tokenizer,
  );
  const [source, answer] = example!.sequences.map(({ tokens }) => [...tokens]);
  expect(source).toEqual(texts[0]!.source);
  expect(answer).toEqual([pad, ...texts[0]!.target]);
});

test('a file of SentencePiece says its pieces, scores and rules', () => {
  const { pieces, kind, charsMap, removesExtraSpaces } = readSentencePieces(
    readFileSync(join(folder, 'source.spm')),
  );
  expect(kind).toBe('unigram');
  expect(removesExtraSpaces).toBe(true);
  expect(charsMap).toEqual(expect.any(String));
  expect(pieces[0]).toEqual({ piece: '<unk>', score: 0, type: 2 });
  expect(pieces.some(({ piece, score }) => piece.startsWith('\u2581') && score < 0)).toBe(true);
});

describe('a folder that cannot be used says why', () => {
  test.each([
    ['source.spm', 'no model', 'source.spm is no SentencePiece model'],
    ['vocab.json', '{"</s>": 0, "<unk>": 1}', 'vocab.json has no <pad>'],
    ['target_vocab.json', '{}', 'two vocabularies'],
  ])('%s that holds %j', async (name, content, message) => {
    const copy = await copyGolden('marian-tiny');
    await writeFile(join(copy, name), content);
    await expect(loadTokenizer(copy)).rejects.toThrow(message);
  });

  test('none of its files', async () => {
    const copy = await copyGolden('marian-tiny');
    await rm(join(copy, 'target.spm'));
    await expect(loadTokenizer(copy)).rejects.toThrow(/No tokenizer.json in .*; transformers makes one/);
  });
});
