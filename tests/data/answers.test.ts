// Sources and answers of encoder-decoders: the tokens of Python's tokenizer, what a line becomes, how long its rows are.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { answerForm, answerPrompt, chooseShares, conversationSource } from '../../src/data/answers.ts';
import type { Message } from '../../src/data/conversation.ts';
import { rowLengths } from '../../src/data/example-form.ts';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';

const golden = (name: string) => join(import.meta.dirname, '../golden', name);
const [START, EOS] = [0, 1];
const SHARES = { source: 1, answer: 0.5 };

let t5: Tokenizer;
let llama: Tokenizer;
beforeAll(async () => {
  t5 = await loadTokenizer(golden('t5-tiny'));
  llama = await loadTokenizer(golden('llama-tiny'));
});

interface Encoded {
  text: string;
  ids: number[];
  decoded: string;
}

const texts: Encoded[] = JSON.parse(readFileSync(join(golden('t5-tiny'), 'texts.json'), 'utf8'));

test.each(texts)('$text has the tokens that Python gives it', ({ text, ids, decoded }) => {
  expect(t5.encodeWhole(text)).toEqual(ids);
  expect(t5.decode(ids)).toBe(decoded);
});

test('the name of a special token in a text is text', () => {
  const ids = t5.encodeWhole('a</s>b');
  expect(ids.filter(id => id === EOS)).toHaveLength(1);
});

test('generation stops at the end of a text', () => {
  expect(t5).toMatchObject({ eosId: EOS, eosIds: [EOS], padId: 0, addsBos: false });
});

const user = (content: string): Message => ({ role: 'user', content });
const assistant = (content: string, weight?: 0 | 1): Message => ({ role: 'assistant', content, weight });

describe('the source of a conversation', () => {
  const source = (messages: Message[]) => t5.decode(conversationSource(messages, null, t5));

  test('is what was asked, where there is no template', () => {
    expect(conversationSource([user('the dog')], null, t5)).toEqual(t5.encodeWhole('the dog'));
    expect(source([{ role: 'system', content: 'be cold' }, user('the dog')])).toBe(
      t5.decode(t5.encodeWhole('be cold\nthe dog')),
    );
  });

  test('says who said what, once the model has said something', () => {
    const messages = [user('a'), assistant('b'), user('c')];
    expect(source(messages)).toBe(t5.decode(t5.encodeWhole('user: a\nassistant: b\nuser: c')));
  });

  test("is the template's text where there is one", () => {
    expect(conversationSource([user('the dog')], null, llama)).toEqual(
      llama.encodeChat([user('the dog')], null, { addGenerationPrompt: true }),
    );
  });
});

describe('a line', () => {
  const form = answerForm(START, SHARES);
  const examples = (line: object) =>
    form
      .examples(line, t5)
      .map(({ sequences }) =>
        sequences.map(({ tokens, trained }) => ({ tokens: [...tokens], trained: [...trained] })),
      );

  test('of prompt and completion is a source and an answer from the first token to the end', () => {
    const answer = [START, ...t5.encode('cold'), EOS];
    expect(examples({ prompt: 'the dog', completion: 'cold' })).toEqual([
      [
        { tokens: t5.encodeWhole('the dog'), trained: t5.encodeWhole('the dog').map(() => 0) },
        { tokens: answer, trained: answer.map((_, i) => (i === 0 ? 0 : 1)) },
      ],
    ]);
  });

  test('of a conversation is an example for every answer that is learnt', () => {
    const messages = [user('a'), assistant('b', 0), user('c'), assistant('d'), user('e'), assistant('f')];
    const made = examples({ messages });
    expect(made.map(([source]) => source!.tokens)).toEqual([
      conversationSource(messages.slice(0, 3), null, t5),
      conversationSource(messages.slice(0, 5), null, t5),
    ]);
    expect(made.map(([, answer]) => t5.decode(answer!.tokens))).toEqual(['d', 'f']);
  });

  test('is asked for evaluation as it is learnt', () => {
    const line = { messages: [user('a'), assistant('b'), user('c'), assistant('d')] };
    const asked = answerPrompt(line, t5)!;
    expect([...asked.tokens]).toEqual(examples(line).at(-1)![0]!.tokens);
    expect(asked.reference).toBe('d');
  });

  test('with a call of a tool alone has no answer to learn', () => {
    const call = { function: { name: 'f', arguments: '{}' } };
    expect(examples({ messages: [user('a'), { role: 'assistant', tool_calls: [call] }] })).toEqual([]);
  });

  test('that is too long keeps the end of its source, and the beginning of its answer', () => {
    const [example] = form.examples({ prompt: 'the quick brown fox', completion: 'the lazy dog' }, t5);
    const [source, answer] = example!.sequences.map(sequence => form.truncate!(sequence, 5, t5));
    expect([...source!.tokens]).toEqual([...t5.encodeWhole('the quick brown fox').slice(0, 4), EOS]);
    expect([...answer!.tokens]).toEqual([START, ...t5.encode('the lazy dog').slice(0, 4)]);
  });
});

test('a row holds an example when it holds both of its parts', () => {
  const sequence = (length: number) => ({ tokens: new Int32Array(length), trained: new Uint8Array(length) });
  const example = (source: number, answer: number) => ({
    sequences: [sequence(source), sequence(answer)],
    values: [],
  });
  expect(rowLengths(answerForm(START, SHARES), [example(9, 3), example(9, 5), example(2, 8)])).toEqual([
    9, 10, 16,
  ]);
});

test.each([
  [
    [
      [100, 10],
      [80, 8],
    ],
    { source: 1, answer: 0.125 },
  ],
  [
    [
      [10, 10],
      [20, 20],
    ],
    { source: 1, answer: 1 },
  ],
  [
    [
      [10, 80],
      [10, 80],
    ],
    { source: 0.125, answer: 1 },
  ],
  [[[64, 30]], { source: 1, answer: 0.5 }],
] as [[number, number][], object][])('rows for examples of %j have shares %j', (lengths, shares) => {
  expect(chooseShares(lengths)).toEqual(shares);
});
