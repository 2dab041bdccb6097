// Conversations that are longer than the context: which turns are left out, and at what cost.
import { expect, test } from 'vitest';
import type { Message } from '../../src/data/conversation.ts';
import { encodeFitting } from '../../src/serving/asked.ts';
import type { LoadedModel } from '../../src/serving/loaded-models.ts';
import type { GenerationParameters } from '../../src/serving/protocol.ts';

/** A token for each character. Counts how often something is encoded. */
function modelWith(maxPositions: number) {
  const encoded: string[] = [];
  const tokenizer = {
    encodeChat(messages: readonly Message[]) {
      const text = messages.map(({ content }) => content).join('');
      encoded.push(text);
      return [...text].map(character => character.charCodeAt(0));
    },
  };
  const generator = { model: { kind: 'causal', shape: { maxPositions } } };
  return { model: { tokenizer, generator } as unknown as LoadedModel, encoded };
}

const message = (role: Message['role'], content: string): Message => ({ role, content });
const conversation = [
  message('system', 'S'),
  message('user', 'aa'),
  message('assistant', 'AA'),
  message('user', 'bb'),
  message('assistant', 'BB'),
  message('user', 'cc'),
];

function shorten(maxPositions: number, maxTokens: number | null, messages = conversation, truncate = true) {
  const { model, encoded } = modelWith(maxPositions);
  const prompt = { kind: 'chat', messages, tools: null, truncate };
  const tokens = encodeFitting(model, { prompt, maxTokens } as GenerationParameters);
  return { text: String.fromCharCode(...tokens), encoded };
}

test.each([
  [12, 1, 'SaaAAbbBBcc'],
  [11, 1, 'SbbBBcc'],
  [11, null, 'SbbBBcc'],
  [12, 2, 'SbbBBcc'],
  [8, 1, 'SbbBBcc'],
  [7, 1, 'Scc'],
  [4, 1, 'Scc'],
  [2, 1, 'Scc'], // too long all the same: whoever counts it says so
])('in a context of %i with room for %s: %s', (maxPositions, maxTokens, text) => {
  expect(shorten(maxPositions, maxTokens).text).toBe(text);
});

test('nothing is left out where nothing may be, nor of a single turn', () => {
  expect(shorten(4, 1, conversation, false).text).toBe('SaaAAbbBBcc');
  expect(shorten(2, 1, [message('user', 'abc')]).text).toBe('abc');
  expect(shorten(2, 1, [message('system', 'abc')]).text).toBe('abc');
});

test('a conversation of a thousand turns is encoded a few times', () => {
  const long = Array.from({ length: 1000 }, (_, i) => message('user', String(i % 10)));
  const { text, encoded } = shorten(101, 1, long);
  expect(text).toBe('0123456789'.repeat(10));
  expect(encoded.length).toBeLessThanOrEqual(12);
});
