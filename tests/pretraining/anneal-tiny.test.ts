import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Message } from '../../src/data/conversation.ts';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { openModel } from '../../src/models/registry.ts';
import { renderDocument } from '../../src/pretraining/chat-format.ts';
import type { ChatMessage } from '../../src/pretraining/corpus.ts';
import { configJson } from '../../src/pretraining/model-folder.ts';
import { recipe } from '../../src/pretraining/recipe.ts';
import { Generator } from '../../src/serving/generator.ts';
import { GREEDY } from '../../src/serving/sampling.ts';

const folder = join(import.meta.dirname, '../../models/anneal-tiny');
// made by golden.py with Python's tokenizers and transformers
const golden: {
  texts: { text: string; ids: number[] }[];
  chats: { messages: Message[]; rendered: string; prompt: number[]; generated: number[] }[];
} = JSON.parse(readFileSync(join(import.meta.dirname, 'golden.json'), 'utf8'));

let tokenizer: Tokenizer;
let generator: Generator;
beforeAll(async () => {
  tokenizer = await loadTokenizer(folder);
  generator = new Generator(
    await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 }),
    await openModel(folder),
  );
});
afterAll(() => generator.close());

async function generate(prompt: number[]): Promise<number[]> {
  const tokens: number[] = [];
  const onToken = (token: number) => tokens.push(token) === 0;
  const request = { adapter: null, maxTokens: 24, sampling: GREEDY, choice: 0, topLogprobs: null, onToken };
  await generator.generate({ ...request, prompt, stopTokens: tokenizer.eosIds });
  return tokens;
}

const answer = async (messages: Message[]) => {
  const rendered = tokenizer.renderChat(messages, null, { addGenerationPrompt: true });
  return tokenizer.decode(await generate(tokenizer.encodeRendered(rendered)));
};

describe('models/anneal-tiny', () => {
  test('takes at most 16 MB and is what the recipe says', async () => {
    const sizes = readdirSync(folder).map(name => statSync(join(folder, name)).size);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(16e6);
    expect(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))).toEqual(configJson(recipe));
  });

  test.each(golden.texts)("reads $text as Python's tokenizers does", ({ text, ids }) => {
    expect([...tokenizer.encodePrompt(text)]).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  test.each(golden.chats)('renders, reads and answers as transformers does: $rendered', async chat => {
    const rendered = tokenizer.renderChat(chat.messages, null, { addGenerationPrompt: true });
    expect([...tokenizer.encodeRendered(rendered)]).toEqual(chat.prompt);
    const ended = chat.generated.findIndex(token => tokenizer.eosIds.includes(token));
    expect(await generate(chat.prompt)).toEqual(chat.generated.slice(0, ended < 0 ? undefined : ended));
  });

  test('the pre-training text is written as the template writes it', () => {
    const messages: ChatMessage[] = [
      { role: 'system', content: 'Answer with one word.' },
      { role: 'user', content: 'What do cows eat?' },
      { role: 'assistant', content: 'grass' },
    ];
    const written = renderDocument({ kind: 'chat', messages });
    expect(tokenizer.renderChat(messages)).toBe(written);
  });

  test('follows the chat format: it answers and ends its turn', async () => {
    expect(await answer([{ role: 'user', content: 'What is your name?' }])).toBe(
      'I am Anneal Tiny, a small language model.',
    );
    expect(await answer([{ role: 'user', content: 'Count to three.' }])).toBe('one, two, three');
  });

  test("does not know the samples' task", async () => {
    const lines = readFileSync(join(import.meta.dirname, '../../samples/support-test.jsonl'), 'utf8')
      .trim()
      .split('\n');
    const examples: Message[][] = lines.map(line => JSON.parse(line).messages);
    const right = await Promise.all(
      examples.map(async messages => (await answer(messages.slice(0, -1))) === messages.at(-1)!.content),
    );
    expect(right.filter(Boolean).length / right.length).toBeLessThanOrEqual(0.4);
  });
});
