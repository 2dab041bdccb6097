// Tool calls read back from what models of each family write, whole and in pieces of every size.
import { describe, expect, test } from 'vitest';
import { createCallReader } from '../../src/serving/tool-calls.ts';
import { findToolForm } from '../../src/serving/tool-forms.ts';

/** A line of the published template of each family that tells its form. */
const templates: Record<string, string> = {
  hermes: '{% if tools %}{{- \'\\n<tool_call>\\n{"name": "\' }}{% endif %}',
  'qwen3-coder': `{% if tools %}{{- '\\n<tool_call>\\n<function=' + tool_call.name + '>\\n' }}{{- '<parameter=' + args_name + '>\\n' }}{% endif %}`,
  'llama-3': `{% if tools is not none %}{{- '"parameters": ' }}{% endif %}`,
  mistral: `{% if tools %}{{- "[TOOL_CALLS] [" }}{% endif %}`,
  'mistral-args': `{% if tools %}{{- '[TOOL_CALLS]' + name + '[ARGS]' }}{% endif %}`,
  'command-r': `{% if tools %}{{ '\\nAction: \`\`\`json\\n[\\n' }}{% endif %}`,
  'command-r7b': '{% if tools %}<|START_ACTION|>[{% endif %}',
  'phi-4-mini': "{% if tools %}{{ '<|tool_call|>' }}{{ '<|/tool_call|>' }}{% endif %}",
  granite: "{% if tools %}{{ '<|tool_call|>' }}{% endif %}",
  deepseek: "{% if tools %}{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' }}{% endif %}",
};
const PARIS = '{"city": "Paris", "days": [1, {"n": "a\\"}b"}]}';

/** What two calls look like in each family, and one after words. */
const written: Record<string, [both: string, one: string]> = {
  hermes: [
    `<tool_call>\n{"name": "weather", "arguments": ${PARIS}}\n</tool_call>\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>`,
    `Let me see.\n<tool_call>\n{"name": "weather", "arguments": ${PARIS}}\n</tool_call>`,
  ],
  'qwen3-coder': [
    `<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n[1, {"n": "a\\"}b"}]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=time>\n</function>\n</tool_call>`,
    `Let me see.\n<tool_call><function=weather><parameter=city>Paris</parameter><parameter=days>\n[1, {"n": "a\\"}b"}]\n</parameter></function></tool_call>`,
  ],
  'llama-3': [
    `{"name": "weather", "parameters": ${PARIS}}; {"name": "time", "parameters": {}}`,
    `<|python_tag|>{"type": "function", "name": "weather", "parameters": ${PARIS}}`,
  ],
  mistral: [
    `[TOOL_CALLS] [{"name": "weather", "arguments": ${PARIS}}, {"name": "time", "arguments": {}}]`,
    `Let me see.[TOOL_CALLS][{"name": "weather", "arguments": ${PARIS}, "id": "abcdefghi"}]`,
  ],
  'mistral-args': [
    `[TOOL_CALLS]weather[ARGS]${PARIS}[TOOL_CALLS]time[ARGS]{}`,
    `Let me see.[TOOL_CALLS]weather[ARGS]${PARIS}`,
  ],
  'command-r': [
    `Action: \`\`\`json\n[\n    {\n        "tool_name": "weather",\n        "parameters": ${PARIS}\n    },\n    {"tool_name": "time", "parameters": {}}\n]\`\`\``,
    `Let me see.\nAction: \`\`\`json\n[{"tool_name": "weather", "parameters": ${PARIS}}]\n\`\`\``,
  ],
  'command-r7b': [
    `<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "weather", "parameters": ${PARIS}},\n    {"tool_call_id": "1", "tool_name": "time", "parameters": {}}\n]<|END_ACTION|>`,
    `Let me see.<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "weather", "parameters": ${PARIS}}]<|END_ACTION|>`,
  ],
  'phi-4-mini': [
    `<|tool_call|>[{"name": "weather", "arguments": ${PARIS}}, {"name": "time", "arguments": {}}]<|/tool_call|>`,
    `Let me see.<|tool_call|>[{"name": "weather", "arguments": ${PARIS}}]<|/tool_call|>`,
  ],
  granite: [
    `<|tool_call|>[{"name": "weather", "arguments": ${PARIS}}, {"name": "time", "arguments": {}}]`,
    `Let me see. <|tool_call|>[{"arguments": ${PARIS}, "name": "weather"}]`,
  ],
  deepseek: [
    `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n\`\`\`json\n${PARIS}\n\`\`\`<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n\`\`\`json\n{}\n\`\`\`<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
    `Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n\`\`\`json\n${PARIS}\n\`\`\`<｜tool▁call▁end｜>`,
  ],
};

const WEATHER = { type: 'object', properties: { city: { type: 'string' }, days: { type: 'array' } } };
const TOOLS = new Map<string, unknown>([
  ['weather', WEATHER],
  ['time', undefined],
]);

function read(family: string, text: string, size = text.length, tools = TOOLS) {
  const form = findToolForm([templates[family]!])!;
  const reader = createCallReader(form, tools);
  const calls: { name: string; arguments: string }[] = [];
  let words = '';
  const take = ({ text, parts }: ReturnType<typeof reader.push>): void => {
    words += text;
    for (const part of parts) {
      if (part.name !== null) calls.push({ name: part.name, arguments: '' });
      expect(part.index).toBe(calls.length - 1);
      calls.at(-1)!.arguments += part.arguments;
    }
  };
  for (let i = 0; i < text.length; i += size) take(reader.push(text.slice(i, i + size)));
  take(reader.end());
  return { words, calls, complete: reader.complete };
}

describe.each(Object.keys(written))('%s', family => {
  const [both, one] = written[family]!;

  test('is told by its template', () => {
    expect(findToolForm([templates[family]!])?.family).toBe(family);
  });

  test.each([1, 2, 3, 7, 1000])('two calls in pieces of %i', size => {
    expect(read(family, both, size)).toEqual({
      words: '',
      calls: [
        { name: 'weather', arguments: PARIS },
        { name: 'time', arguments: '{}' },
      ],
      complete: 2,
    });
  });

  test.each([1, 2, 5, 1000])('one call after words in pieces of %i', size => {
    expect(read(family, one, size)).toEqual({
      words: family === 'llama-3' ? '' : 'Let me see.',
      calls: [{ name: 'weather', arguments: PARIS }],
      complete: 1,
    });
  });

  test('a call that is cut off gives what there is of its arguments', () => {
    const cut = both.slice(0, both.indexOf('Paris') + 3);
    expect(read(family, cut, 4)).toMatchObject({
      calls: [{ name: 'weather', arguments: '{"city": "Par' }],
      complete: 0,
    });
  });

  test('words stay words', () => {
    const words = 'No call, {just} a < b, an <|odd|> [TEXT] and Action.\n';
    for (const size of [1, 3, 1000])
      expect(read(family, words, size)).toEqual({ words, calls: [], complete: 0 });
  });

  test('what names no tool is words', () => {
    const text = both.replaceAll('weather', 'other').replaceAll('time', 'another');
    expect(read(family, text, 3)).toEqual({ words: text, calls: [], complete: 0 });
  });
});

test('arguments that are a string of JSON are that JSON', () => {
  const text = `<tool_call>{"name": "time", "arguments": "{\\"zone\\": 1}"}</tool_call>`;
  for (const size of [1, 5, 100])
    expect(read('hermes', text, size).calls).toEqual([{ name: 'time', arguments: '{"zone": 1}' }]);
});

test('a call without arguments has none', () => {
  expect(read('hermes', '<tool_call>{"name": "time"}</tool_call>').calls).toEqual([
    { name: 'time', arguments: '{}' },
  ]);
});

test('JSON that is an answer is not a call', () => {
  const text = '{"name": "Ada", "parameters": {"a": 1}}';
  expect(read('llama-3', text, 2)).toEqual({ words: text, calls: [], complete: 0 });
});

test('a template that knows no tools has no form', () => {
  expect(findToolForm(['{{ messages }} <tool_call>'])).toBeNull();
});

describe('arguments that are elements', () => {
  const argumentsOf = (properties: object, values: Record<string, string>, size = 1000) => {
    const elements = Object.entries(values).map(
      ([name, value]) => `<parameter=${name}>\n${value}\n</parameter>\n`,
    );
    const parameters = {
      type: 'object',
      properties,
      $defs: { count: { type: 'integer' }, loop: { $ref: '#/$defs/loop' } },
    };
    const text = `<tool_call>\n<function=f>\n${elements.join('')}</function>\n</tool_call>`;
    const { calls, words, complete } = read('qwen3-coder', text, size, new Map([['f', parameters]]));
    expect({ words, complete }).toEqual({ words: '', complete: 1 });
    return JSON.parse(calls[0]!.arguments);
  };

  test.each([
    ['a string is text as it is', { type: 'string' }, 'true', 'true'],
    [
      'a string of several lines',
      { type: 'string' },
      '\n a\n\n"b" \\ </parameter \u{1f600}\n',
      '\n a\n\n"b" \\ </parameter \u{1f600}\n',
    ],
    ['an empty string', { type: 'string' }, '', ''],
    ['an integer', { type: 'integer' }, '42', 42],
    ['a number', { type: 'number' }, '-4.5e1', -45],
    ['a truth', { type: 'boolean' }, 'true', true],
    ['a truth of Python', { type: 'boolean' }, 'False', false],
    ['nothing', { type: ['string', 'null'] }, 'null', null],
    ['nothing, of Python', { anyOf: [{ type: 'integer' }, { type: 'null' }] }, 'None', null],
    ['a string where there may be nothing', { type: ['string', 'null'] }, 'nulls', 'nulls'],
    ['a list', { type: 'array' }, '[1, "a"]', [1, 'a']],
    ['an object', { type: 'object' }, '{"a": {"b": "</function>"}}', { a: { b: '</function>' } }],
    ['a choice of numbers', { enum: [1, 2] }, '2', 2],
    ['a choice of strings', { enum: ['1', '2'] }, '2', '2'],
    ['a constant', { const: 7 }, '7', 7],
    ['a reference', { $ref: '#/$defs/count' }, '3', 3],
    ['a reference to itself', { $ref: '#/$defs/loop' }, '3', '3'],
    ['a reference to nothing', { $ref: '#/$defs/none' }, '3', '3'],
    ['what has no type', {}, '3', '3'],
    ['what is not of its type is not lost', { type: 'integer' }, 'three', 'three'],
  ])('%s', (_, schema, written, value) => {
    for (const size of [1, 2, 3, 5, 1000])
      expect(argumentsOf({ a: schema }, { a: written }, size)).toEqual({ a: value });
  });

  test('one that the schema does not name is a string', () => {
    expect(argumentsOf({ a: { type: 'integer' } }, { b: '1', a: '2', toString: '3' })).toEqual({
      b: '1',
      a: 2,
      toString: '3',
    });
  });

  test('a string comes while it is written', () => {
    const form = findToolForm([templates['qwen3-coder']!])!;
    const reader = createCallReader(form, TOOLS);
    const parts = ['<tool_call>\n<function=weather>\n<parameter=city>\nPa', 'r', 'is\n</para', 'graph>'].map(
      piece =>
        reader
          .push(piece)
          .parts.map(part => part.arguments)
          .join(''),
    );
    expect(parts).toEqual(['{"city": "Pa', 'r', 'is', '\\n</paragraph>']);
  });
});
