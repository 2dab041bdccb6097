// What is learnt of a line: masks against transformers' assistant masks (fixtures/make.py), templates that change what
// they wrote before, and prompts that are the beginning of what is trained.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { TemplateError } from '../../src/data/chat-template.ts';
import type { Message, Tool, TrainingLine } from '../../src/data/conversation.ts';
import { countTrained, type Sequence, truncateSequence } from '../../src/data/example-form.ts';
import { evaluationPrompt, makeSequences } from '../../src/data/examples.ts';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const folder = mkdtempSync(join(tmpdir(), 'anneal-examples-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A fixture's tokenizer with another template; null: with none. */
async function withTemplate(family: string, template: string | null): Promise<Tokenizer> {
  const directory = mkdtempSync(join(folder, family));
  cpSync(join(FIXTURES, family), directory, { recursive: true });
  if (template === null) rmSync(join(directory, 'chat_template.jinja'));
  else writeFileSync(join(directory, 'chat_template.jinja'), template);
  return loadTokenizer(directory);
}

/** The example as text, what is learnt in brackets. */
function show(example: Sequence, tokenizer: Tokenizer): string {
  let text = '';
  let run: number[] = [];
  const flush = (trained: boolean) => {
    const part = run.map(id => Buffer.from(tokenizer.tokenBytes(id)).toString('latin1')).join('');
    const decoded = Buffer.from(part, 'latin1').toString('utf8');
    if (run.length > 0) text += trained ? `[[${decoded}]]` : decoded;
    run = [];
  };
  example.tokens.forEach((id, i) => {
    if (i > 0 && example.trained[i] !== example.trained[i - 1]) flush(example.trained[i - 1] === 1);
    run.push(id);
  });
  flush(example.trained.at(-1) === 1);
  return text;
}

const chat = (...turns: [Message['role'], string, (0 | 1)?][]): { messages: Message[] } => ({
  messages: turns.map(([role, content, weight]) => ({
    role,
    content,
    ...(weight === undefined ? {} : { weight }),
  })),
});

function only(line: TrainingLine, tokenizer: Tokenizer): string {
  const examples = makeSequences(line, tokenizer);
  expect(examples).toHaveLength(1);
  return show(examples[0]!, tokenizer);
}

describe.each(['chatml', 'llama3', 'mistral', 'metaspace', 'gemma'])('%s', family => {
  const golden = JSON.parse(readFileSync(join(FIXTURES, family, 'golden.json'), 'utf8'));
  const chats: {
    name: string;
    messages: Message[];
    tools: Tool[] | null;
    ids: number[];
    mask: number[];
    prompt: number[];
  }[] = golden.chats;

  test.each(chats)(
    '$name: learns what transformers marks as generated',
    async ({ messages, tools, ids, mask }) => {
      const tokenizer = await loadTokenizer(join(FIXTURES, family));
      const [example, ...more] = makeSequences({ messages, tools }, tokenizer);
      expect(more).toEqual([]);
      const length = mask.lastIndexOf(1) + 1;
      expect([...example!.tokens]).toEqual(ids.slice(0, length));
      expect([...example!.trained]).toEqual(mask.slice(0, length));
    },
  );

  test.each(chats)(
    '$name: is evaluated from the prompt that it was trained on',
    async ({ messages, tools, prompt }) => {
      const tokenizer = await loadTokenizer(join(FIXTURES, family));
      const asked = evaluationPrompt({ messages, tools }, tokenizer)!;
      expect([...asked.tokens]).toEqual(prompt);
      expect(asked.reference).toBe(messages.findLast(message => message.role === 'assistant')!.content);
      const example = makeSequences({ messages, tools }, tokenizer)[0]!;
      const start = example.trained.lastIndexOf(0) + 1;
      expect([...example.tokens.subarray(0, start)]).toEqual(prompt);
    },
  );
});

describe('weights', () => {
  test('0 is not learnt, 1 and none are', async () => {
    const tokenizer = await loadTokenizer(join(FIXTURES, 'chatml'));
    const line = chat(
      ['user', 'a'],
      ['assistant', 'one', 0],
      ['user', 'b'],
      ['assistant', 'two', 1],
      ['user', 'c'],
      ['assistant', 'three'],
    );
    expect(only(line, tokenizer)).toBe(
      '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\none<|im_end|>\n' +
        '<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n[[two<|im_end|>]]\n' +
        '<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[[three<|im_end|>]]',
    );
  });

  test('a control token that a user wrote is text, and ends nothing', async () => {
    const tokenizer = await loadTokenizer(join(FIXTURES, 'chatml'));
    const [example] = makeSequences(chat(['user', 'a'], ['assistant', 'x<|im_end|>y']), tokenizer);
    expect(show(example!, tokenizer)).toContain('[[x<|im_end|>y<|im_end|>]]');
    expect([...example!.tokens].filter(id => id === tokenizer.endOfTurnId)).toHaveLength(2);
  });
});

describe('templates that are not a plain sequence of messages', () => {
  const DROPS_REASONING = `{%- for m in messages -%}
    {%- if m.role == 'assistant' and not loop.last -%}<|im_start|>assistant\\n{{ m.content.split('</think>')[-1] }}<|im_end|>\\n
    {%- else -%}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{%- endif -%}{%- endfor -%}
    {%- if add_generation_prompt -%}<|im_start|>assistant\\n{%- endif -%}`.replaceAll('\\n', "{{ '\\n' }}");

  test('an answer that is written differently later on is learnt as it is generated', async () => {
    const tokenizer = await withTemplate('chatml', DROPS_REASONING);
    const line = chat(
      ['user', 'a'],
      ['assistant', '<think>r</think>one'],
      ['user', 'b'],
      ['assistant', '<think>s</think>two'],
    );
    expect(makeSequences(line, tokenizer).map(example => show(example, tokenizer))).toEqual([
      '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\none<|im_end|>\n' +
        '<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n[[<think>s</think>two<|im_end|>]]',
      '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[<think>r</think>one<|im_end|>]]',
    ]);
  });

  test('what the prompt of generation already holds is not learnt', async () => {
    const template = `{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor -%}
      {%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n<think>\\n' }}{%- endif -%}`;
    const tokenizer = await withTemplate('chatml', template);
    const plain = '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[yes<|im_end|>]]';
    expect(only(chat(['user', 'a'], ['assistant', 'yes']), tokenizer)).toBe(plain);
    const reasoned =
      '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\n[[r</think>yes<|im_end|>]]';
    expect(only(chat(['user', 'a'], ['assistant', '<think>\nr</think>yes']), tokenizer)).toBe(reasoned);
  });

  test('a first message that no prompt can precede is found by its text', async () => {
    const template = `{%- if not messages -%}{{ raise_exception('No messages') }}{%- endif -%}
      {%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor -%}`;
    const tokenizer = await withTemplate('chatml', template);
    expect(only(chat(['assistant', 'Hello.']), tokenizer)).toBe(
      '<|im_start|>assistant\n[[Hello.<|im_end|>]]',
    );
  });

  test('a template that ends an answer with nothing gets the end of text after the last one', async () => {
    const template = `{%- for m in messages -%}{{ m.role + ': ' + m.content + '\\n' }}{%- endfor -%}
      {%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}`;
    const tokenizer = await withTemplate('chatml', template);
    const line = chat(['user', 'a'], ['assistant', 'one'], ['user', 'b'], ['assistant', 'two']);
    expect(only(line, tokenizer)).toBe(
      'user: a\nassistant: [[one\n]]user: b\nassistant: [[two\n<|im_end|>]]',
    );
  });

  test('a token never spans the beginning of an answer', async () => {
    const template = `{%- for m in messages -%}{{ m.role + ': ' + m.content + eos_token + '\\n' }}{%- endfor -%}
      {%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}`;
    for (const family of ['chatml', 'llama3', 'mistral', 'metaspace', 'gemma']) {
      const tokenizer = await withTemplate(family, template);
      const line = chat(
        ['user', 'Where?'],
        ['assistant', 'Paris is the capital'],
        ['user', 'And?'],
        ['assistant', 'the'],
      );
      const [example] = makeSequences(line, tokenizer);
      const end = tokenizer.decode([tokenizer.eosId!], { special: true });
      const bos = tokenizer.addsBos ? tokenizer.decode([tokenizer.bosId!], { special: true }) : '';
      // A SentencePiece-like vocabulary puts a space of its own after control tokens.
      const words = (text: string) =>
        ['mistral', 'metaspace'].includes(family) ? text.replaceAll(' ', '') : text;
      const expected = `${bos}user: Where?${end}\nassistant: [[Paris is the capital${end}]]\nuser: And?${end}\nassistant: [[the${end}]]`;
      expect(words(show(example!, tokenizer))).toBe(words(expected));
      // What stands before an answer is, to the token, what generation starts from.
      const prompt = tokenizer.encodeChat(line.messages.slice(0, 1), null, { addGenerationPrompt: true });
      expect([...example!.tokens.subarray(0, prompt.length)]).toEqual(prompt);
      expect(example!.trained.indexOf(1)).toBe(prompt.length);
    }
  });

  test('no template: the plain one', async () => {
    const tokenizer = await withTemplate('chatml', null);
    const line = chat(
      ['system', 'Be kind.'],
      ['user', 'a'],
      ['assistant', 'one'],
      ['user', 'b'],
      ['assistant', 'two'],
    );
    expect(only(line, tokenizer)).toBe(
      'System:\nBe kind.\n\nUser:\na\n\nAssistant:\n[[one<|im_end|>]]\n\nUser:\nb\n\nAssistant:\n[[two<|im_end|>]]',
    );
  });

  test("a template's refusal of the whole line is thrown", async () => {
    const tokenizer = await loadTokenizer(join(FIXTURES, 'mistral'));
    expect(() => makeSequences(chat(['user', 'a'], ['user', 'b'], ['assistant', 'c']), tokenizer)).toThrow(
      TemplateError,
    );
  });
});

describe('prompt and completion', () => {
  test.each([
    ['chatml', '[[ yes<|im_end|>]]'],
    ['llama3', '[[ yes<|eot_id|>]]'],
    ['mistral', '[[ yes</s>]]'],
  ])('%s: the completion and its end are learnt', async (family, learnt) => {
    const tokenizer = await loadTokenizer(join(FIXTURES, family));
    const line = { prompt: 'Is it? Answer:', completion: ' yes' };
    const [example] = makeSequences(line, tokenizer);
    expect(show(example!, tokenizer)).toMatch(/Is it\? Answer:\[\[/);
    expect(show(example!, tokenizer).endsWith(learnt)).toBe(true);
    const asked = evaluationPrompt(line, tokenizer)!;
    expect(asked.reference).toBe(' yes');
    expect([...example!.tokens.subarray(0, asked.tokens.length)]).toEqual([...asked.tokens]);
    expect(example!.trained.indexOf(1)).toBe(asked.tokens.length);
  });

  test('a prompt that ends inside of what would be one token keeps its own tokens', async () => {
    for (const family of ['chatml', 'llama3', 'mistral', 'metaspace', 'gemma']) {
      const tokenizer = await loadTokenizer(join(FIXTURES, family));
      const [example] = makeSequences({ prompt: 'the capi', completion: 'tal of France' }, tokenizer);
      const prompt = tokenizer.encodePrompt('the capi');
      expect([...example!.tokens.subarray(0, prompt.length)]).toEqual(prompt);
      expect(example!.trained.indexOf(1)).toBe(prompt.length);
      expect(tokenizer.decode(example!.tokens)).toBe('the capital of France');
    }
  });

  test('without a prompt the first token follows BOS, or is not learnt', async () => {
    const [llama] = makeSequences(
      { prompt: '', completion: 'one two' },
      await loadTokenizer(join(FIXTURES, 'llama3')),
    );
    expect(llama!.trained.indexOf(1)).toBe(1);
    const chatml = await loadTokenizer(join(FIXTURES, 'chatml'));
    const [example] = makeSequences({ prompt: '', completion: 'one two' }, chatml);
    expect(example!.trained.indexOf(1)).toBe(1);
    expect(countTrained(example!)).toBe(example!.tokens.length - 1);
  });
});

test('over-long examples are cut from the end', async () => {
  const tokenizer = await loadTokenizer(join(FIXTURES, 'chatml'));
  const [example] = makeSequences(chat(['user', 'a'], ['assistant', 'one two three']), tokenizer);
  const length = example!.tokens.length;
  const cut = truncateSequence(example!, length - 2);
  expect([...cut.tokens]).toEqual([...example!.tokens.subarray(0, length - 2)]);
  expect(countTrained(cut)).toBe(countTrained(example!) - 2);
  expect(truncateSequence(example!, length)).toBe(example);
});

test('an answer that is only a tool call is trained and not evaluated by its text', async () => {
  const tokenizer = await loadTokenizer(join(FIXTURES, 'chatml'));
  const line: TrainingLine = {
    messages: [
      { role: 'user', content: 'a' },
      {
        role: 'assistant',
        tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{"b":1}' } }],
      },
    ],
  };
  expect(only(line, tokenizer)).toContain(
    '[[<tool_call>\n{"name": "f", "arguments": {"b": 1}}\n</tool_call><|im_end|>]]',
  );
  expect(evaluationPrompt(line, tokenizer)).toBeNull();
});
