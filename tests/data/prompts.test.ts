// Lines of prompts: what a model is asked, what a long one loses, and what is left to the grader.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { promptForm, readPromptLines } from '../../src/data/prompts.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { validateTrainingFile } from '../../src/data/validate.ts';

const tokenizer = await loadTokenizer(join(import.meta.dirname, '../golden/llama-tiny'));
const line = { messages: [{ role: 'user', content: 'What is it?' }], answer: 'red' };

describe('a prompt', () => {
  const form = promptForm(8, false);
  const [example] = form.examples(line, tokenizer);
  const [sequence] = example!.sequences;

  test('is what a chat completion would begin with, none of it learnt', () => {
    const asked = tokenizer.encodeChat(line.messages as never, null, { addGenerationPrompt: true });
    expect(Array.from(sequence!.tokens)).toEqual(asked);
    expect(sequence!.trained).toEqual(new Uint8Array(asked.length));
  });

  test('leaves room for its answer, and loses its beginning for it', () => {
    const { length } = sequence!.tokens;
    expect(form.truncate!(sequence!, length + 8, tokenizer)).toBe(sequence);
    const cut = form.truncate!(sequence!, length + 5, tokenizer);
    expect(Array.from(cut.tokens)).toEqual(Array.from(sequence!.tokens.subarray(3)));
  });
});

test('a prompt with tools is refused of a model that cannot call them, and is asked with them of one that can', () => {
  const tools = [{ type: 'function', function: { name: 'look_up', parameters: {} } }];
  const withTools = { ...line, tools };
  expect(() => promptForm(8, false).examples(withTools, tokenizer)).toThrow(/it does not support tools/);
  expect(promptForm(8, false).examples({ ...line, tools: [] }, tokenizer)).toHaveLength(1);
  expect(promptForm(8, true).examples(withTools, tokenizer)).toHaveLength(1);
});

describe('a file of prompts', () => {
  const validate = (lines: unknown[]) =>
    validateTrainingFile([Buffer.from(lines.map(each => `${JSON.stringify(each)}\n`).join(''))] as never, {
      kind: 'training',
      method: 'reinforcement',
    });

  test('may have any keys, also those that tell other formats apart', async () => {
    const { errors, format } = await validate([line, { ...line, label: 'a', prompt: 1, value: null }]);
    expect({ errors, format }).toEqual({ errors: [], format: 'prompt' });
  });

  test.each([
    [{ answer: 'red' }, "Example 1 is missing key 'messages'"],
    [{ messages: [] }, "Example 1: 'messages' must be a list of at least one message"],
    [
      { messages: [...line.messages, { role: 'assistant', content: 'red' }] },
      "Example 1, message 2 is the last and has the role 'assistant': there is nothing to answer",
    ],
    [{ ...line, tools: {} }, "Example 1: 'tools' must be a list"],
  ])('%j is refused', async (wrong, message) => {
    const { errors } = await validate([wrong]);
    expect(errors.map(error => error.message)).toEqual([message]);
  });

  test('is read in the order of its examples', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'anneal-prompts-')), 'lines.jsonl');
    writeFileSync(file, `${JSON.stringify(line)}\n\n${JSON.stringify({ ...line, answer: 'blue' })}\n`);
    expect((await readPromptLines(file)).map(({ answer }) => answer)).toEqual(['red', 'blue']);
  });
});
