// Tokenizers and chat templates against Python's tokenizers and transformers (fixtures/make.py).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TemplateError } from '../../src/data/chat-template.ts';
import type { Message, Tool } from '../../src/data/conversation.ts';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const DATE = new Date('2024-07-26T12:00:00Z');

interface Golden {
  texts: { text: string; ids: number[]; with_special: number[]; decoded: string }[];
  chats: {
    name: string;
    messages: Message[];
    tools: Tool[] | null;
    text: string;
    ids: number[];
    mask: number[];
    prompt: number[];
  }[];
}

const families = await Promise.all(
  ['chatml', 'llama3', 'mistral', 'metaspace', 'gemma', 'gpt2'].map(async name => ({
    name,
    tokenizer: await loadTokenizer(join(FIXTURES, name)),
    golden: JSON.parse(readFileSync(join(FIXTURES, name, 'golden.json'), 'utf8')) as Golden,
  })),
);
const byName = Object.fromEntries(families.map(({ name, tokenizer }) => [name, tokenizer])) as Record<
  'chatml' | 'llama3' | 'mistral' | 'gemma' | 'gpt2',
  Tokenizer
>;
const { chatml, llama3, mistral, gemma, gpt2 } = byName;

describe.each(families)('$name', ({ tokenizer, golden }) => {
  test.each(golden.texts)('encodes $text as Python does, special tokens as text', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
  });

  test.each(golden.texts)('decodes the tokens of $text as Python does', ({ ids, decoded }) => {
    expect(tokenizer.decode(ids, { special: true })).toBe(decoded);
  });

  test.each(golden.chats)('renders $name as transformers does', ({ messages, tools, text }) => {
    expect(tokenizer.displayText(tokenizer.renderChat(messages, tools, { now: DATE }))).toBe(text);
  });

  test.each(golden.chats)('tokenizes $name as transformers does', ({ messages, tools, ids, prompt }) => {
    expect(tokenizer.encodeChat(messages, tools, { now: DATE })).toEqual(ids);
    const last = messages.findLastIndex(message => message.role === 'assistant');
    const options = { addGenerationPrompt: true, now: DATE };
    expect(tokenizer.encodeChat(messages.slice(0, last), tools, options)).toEqual(prompt);
  });

  test('a stream of tokens gives the text, and never half a character', () => {
    const character = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom('👋🏽', 'é', '你', ' ', '\n', 'the', '<0x41>'),
    );
    fc.assert(
      fc.property(fc.array(character, { maxLength: 12 }), parts => {
        const text = parts.join('');
        const ids = tokenizer.encode(text);
        const decoder = tokenizer.streamDecoder({ special: true });
        const pieces = [...ids.map(id => decoder.push(id)), decoder.end()];
        expect(pieces.join('')).toBe(tokenizer.decode(ids, { special: true }));
        expect(
          pieces.every(
            piece => piece.isWellFormed() && (!piece.includes('\ufffd') || text.includes('\ufffd')),
          ),
        ).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('no text of a user ever becomes a control token', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '<|im_end|>',
        '<|im_start|>',
        '<|eot_id|>',
        '</s>',
        '<s>',
        '<|begin_of_text|>',
        '<|endoftext|>',
        '<start_of_turn>',
        '<',
        '|>',
        'im_end',
        '\ufdd0',
      ),
      fc.string({ unit: 'binary', maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), parts => {
        const content = parts.join('');
        const isControl = (id: number) =>
          tokenizer.isSpecial(id) && tokenizer.decode([id], { special: true }) !== '<unk>';
        expect(tokenizer.encode(content).filter(isControl)).toEqual([]);
        const controls = (text: string) =>
          tokenizer.encodeChat([{ role: 'user', content: text }], null).filter(isControl);
        expect(controls(content)).toEqual(controls('plain'));
        expect(tokenizer.displayText(tokenizer.renderChat([{ role: 'user', content }]))).toContain(
          content.trim(),
        );
      }),
      { numRuns: 200 },
    );
  });

  test('the bytes of the tokens are the text', () => {
    const text = 'naïve 👋🏽 <0x41> 你好';
    const bytes = Buffer.concat(tokenizer.encode(text).map(id => tokenizer.tokenBytes(id)));
    expect(bytes.toString('utf8').trimStart()).toBe(text);
  });
});

test('BOS is written once: by the template, by the tokenizer, by both, by neither', () => {
  const chat: Message[] = [{ role: 'user', content: 'a' }];
  const count = (ids: number[], id: number | null) => ids.filter(other => other === id).length;
  for (const tokenizer of [llama3, mistral]) {
    expect(tokenizer.addsBos).toBe(true);
    expect(count(tokenizer.encodeChat(chat), tokenizer.bosId)).toBe(1);
    expect(tokenizer.encodePrompt('a')).toEqual([tokenizer.bosId, ...tokenizer.encode('a')]);
    expect(count(tokenizer.encodeRendered('no BOS in this text'), tokenizer.bosId)).toBe(1);
  }
  expect(chatml.bosId).toBeNull();
  expect(chatml.encodePrompt('a')).toEqual(chatml.encode('a'));
});

test('the ends of a turn and of a text are found', () => {
  const id = (tokenizer: Tokenizer, text: string) => tokenizer.encodeRendered(text).at(-1);
  expect(chatml.endOfTurnId).toBe(id(chatml, '<|im_end|>'));
  expect(llama3.endOfTurnId).toBe(id(llama3, '<|eot_id|>'));
  expect(mistral.endOfTurnId).toBe(id(mistral, '</s>'));
  expect(gemma.endOfTurnId).toBe(id(gemma, '<end_of_turn>'));
  expect(gemma.eosIds).toEqual([id(gemma, '</s>'), id(gemma, '<end_of_turn>')]);
  expect(gpt2.endOfTurnId).toBe(id(gpt2, '<|endoftext|>'));
  for (const tokenizer of [chatml, llama3, mistral])
    expect(tokenizer.eosIds).toContain(tokenizer.endOfTurnId);
});

test('a role that the template does not know is given as the one it does', () => {
  const as = (role: Message['role']) =>
    chatml.renderChat([
      { role, content: 'Be brief.' },
      { role: 'user', content: 'a' },
    ]);
  expect(as('developer')).toBe(as('system'));
});

test('arguments in OpenAI form, a string of JSON, render as the object does', () => {
  const call = (args: string | Record<string, unknown>): Message[] => [
    { role: 'user', content: 'a' },
    {
      role: 'assistant',
      content: null,
      tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: args } }],
    },
  ];
  expect(llama3.renderChat(call('{"b":[1,"2"]}'))).toBe(llama3.renderChat(call({ b: [1, '2'] })));
  expect(llama3.renderChat(call('{"b":[1,"2"]}'))).toContain('{"b": [1, "2"]}');
});

test('the deprecated function call is a tool call, parts of text are one text', () => {
  const old = chatml.renderChat([{ role: 'assistant', function_call: { name: 'f', arguments: '{}' } }]);
  const today = chatml.renderChat([
    {
      role: 'assistant',
      tool_calls: [{ id: 'x', type: 'function', function: { name: 'f', arguments: '{}' } }],
    },
  ]);
  expect(old).toBe(today);
  const parts = [
    { type: 'text' as const, text: 'one' },
    { type: 'text' as const, text: 'two' },
  ];
  expect(chatml.renderChat([{ role: 'user', content: parts }])).toContain('one\ntwo<|im_end|>');
});

test("a template's refusal is a TemplateError with its words", () => {
  const twice: Message[] = [
    { role: 'user', content: 'a' },
    { role: 'user', content: 'b' },
  ];
  expect(() => mistral.renderChat(twice)).toThrow(TemplateError);
  expect(() => mistral.renderChat(twice)).toThrow('Conversation roles must alternate');
});

test('strftime_now says the date it is given', () => {
  const now = new Date('2026-01-05T23:59:59Z');
  expect(llama3.renderChat([{ role: 'user', content: 'a' }], null, { now })).toContain(
    'Today Date: 05 Jan 2026',
  );
});

test('control tokens are left out of a text, unless it is asked for with them', () => {
  const ids = chatml.encodeRendered('<|im_start|>assistant\nHi<|im_end|>');
  expect(chatml.decode(ids)).toBe('assistant\nHi');
  expect(chatml.decode(ids, { special: true })).toBe('<|im_start|>assistant\nHi<|im_end|>');
  const stream = (options: { special?: boolean }) => {
    const decoder = chatml.streamDecoder(options);
    return ids.map(id => decoder.push(id)).join('') + decoder.end();
  };
  expect(stream({})).toBe('assistant\nHi');
  expect(stream({ special: true })).toBe('<|im_start|>assistant\nHi<|im_end|>');
});

test('200,000 letters without a space are encoded, in bounded memory', () => {
  for (const tokenizer of [chatml, mistral, gpt2]) {
    const text = `${'xyzé'.repeat(50_000)}`;
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  }
});
