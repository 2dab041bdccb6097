// Lines with a preferred answer and another: what they become, and what is wrong with them.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeSequences } from '../../src/data/examples.ts';
import { checkLine } from '../../src/data/line-rules.ts';
import { type PreferenceLine, preferenceForm } from '../../src/data/preferences.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';

const assistant = (content: string) => ({ role: 'assistant' as const, content });
const line: PreferenceLine = {
  input: {
    messages: [{ role: 'user', content: 'Hi' }, assistant('Yes?'), { role: 'user', content: 'Name a color' }],
  },
  preferred_output: [assistant('Red.')],
  non_preferred_output: [assistant('A color is a property of light.')],
};

test('both answers follow the same prompt, and nothing else of it counts', async () => {
  const tokenizer = await loadTokenizer(join(import.meta.dirname, '../golden/llama-tiny'));
  const [{ sequences }] = preferenceForm.examples(line, tokenizer) as [
    ReturnType<typeof preferenceForm.examples>[0],
  ];
  const alone = line.input.messages.map(message =>
    message.role === 'assistant' ? { ...message, weight: 0 as const } : message,
  );
  expect(sequences).toEqual(
    [line.preferred_output, line.non_preferred_output].map(
      ([answer]) => makeSequences({ messages: [...alone, answer] }, tokenizer)[0],
    ),
  );
  const counting = sequences.map(({ tokens, trained }) =>
    tokenizer.decode(Array.from(tokens).filter((_, i) => trained[i])),
  );
  expect(counting[0]).toMatch(/^Red\./);
  expect(counting[1]).toMatch(/^A color is a property of light\./);
  expect(preferenceForm.answer(line)).toBe('Red.');
});

test('a pair of which the cut leaves one answer teaches nothing', () => {
  const sequence = (trained: number[]) => ({ tokens: new Int32Array(2), trained: Uint8Array.from(trained) });
  const teaches = (...pair: number[][]) =>
    preferenceForm.teaches!({ sequences: pair.map(sequence), values: [] });
  expect(teaches([0, 1], [0, 1])).toBe(true);
  expect(teaches([0, 1], [0, 0])).toBe(false);
});

const wrong: [string, object, string, RegExp][] = [
  ['no input', { ...line, input: undefined }, 'input', /must be an object with 'messages'/],
  [
    'an empty conversation',
    { ...line, input: { messages: [] } },
    'input.messages',
    /, input: 'messages' must be a list/,
  ],
  [
    'a wrong role',
    { ...line, input: { messages: [{ role: 'cat', content: 'x' }] } },
    'input.messages[0].role',
    /, input, message 1 has the unknown role/,
  ],
  ['a key too much', { ...line, weight: 1 }, 'weight', /extra "weight"/],
  [
    'two answers',
    { ...line, preferred_output: [assistant('a'), assistant('b')] },
    'preferred_output',
    /list of one message/,
  ],
  [
    'an answer that is missing',
    { ...line, non_preferred_output: undefined },
    'non_preferred_output',
    /list of one message/,
  ],
  [
    'an answer of the user',
    { ...line, preferred_output: [{ role: 'user', content: 'x' }] },
    'preferred_output[0].role',
    /must be 'assistant'/,
  ],
  [
    'an empty answer',
    { ...line, preferred_output: [assistant('')] },
    'preferred_output[0].content',
    /, preferred_output, message 1 is missing key 'content'/,
  ],
];

test.each(wrong)('%s', (_, given, path, text) => {
  const [first] = checkLine(JSON.parse(JSON.stringify(given)), 'preference');
  expect(first).toMatchObject({ path, text: expect.stringMatching(text) });
});

test('a right line', () => expect(checkLine(line, 'preference')).toEqual([]));
