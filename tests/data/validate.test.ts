// Validation of whole files: each mistake with its line, path and OpenAI's sentence, and the job error they make.
import { expect, test } from 'vitest';
import { type FileKind, type Method, toJobError, validateTrainingFile } from '../../src/data/validate.ts';

const GOOD = {
  messages: [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b' },
  ],
};
const answered = (extra: object) => ({
  messages: [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b', ...extra },
  ],
});

async function validate(
  lines: (object | string)[],
  kind: FileKind = 'training',
  method: Method = 'supervised',
) {
  const text = lines.map(line => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n');
  return validateTrainingFile([Buffer.from(text)], { kind, method });
}

const call = (fields: object) =>
  answered({
    content: null,
    tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' }, ...fields }],
  });
const tool = (fields: object) => ({
  ...GOOD,
  tools: [{ type: 'function', function: { name: 'f' }, ...fields }],
});
const user = (fields: object) => ({
  messages: [
    { role: 'user', ...fields },
    { role: 'assistant', content: 'b' },
  ],
});

test.each<[string, object | string, string, string]>([
  [
    'bad JSON',
    '{"messages": [{"role": "user"} {"role": "x"}]}',
    '',
    " cannot be parsed. Error: line contains invalid json: Expecting ',' delimiter: line 1 column 32 (char 31) (line 2)",
  ],
  ['not an object', '[1]', '', ' is not a JSON object'],
  ['null', 'null', '', ' is not a JSON object'],
  ['no messages', { text: 'a' }, 'messages', " is missing key 'messages'"],
  ['empty messages', { messages: [] }, 'messages', ": 'messages' must be a list of at least one message"],
  [
    'messages that are no list',
    { messages: 'a' },
    'messages',
    ": 'messages' must be a list of at least one message",
  ],
  ['an unknown key', { ...GOOD, weight: 1 }, 'weight', ' contains an extra "weight".'],
  [
    'a message that is text',
    { messages: ['a', GOOD.messages[1]] },
    'messages[0]',
    ', message 1 is not a JSON object',
  ],
  [
    'no role',
    user({ role: undefined, content: 'a' }),
    'messages[0].role',
    ", message 1 Discriminator 'role' is missing in value",
  ],
  [
    'an unknown role',
    user({ role: 'robot', content: 'a' }),
    'messages[0].role',
    ", message 1 has the unknown role \"robot\": it must be one of 'system', 'developer', 'user', 'assistant', 'tool', 'function'",
  ],
  [
    'a role out of the prototype',
    user({ role: 'toString', content: 'a' }),
    'messages[0].role',
    ", message 1 has the unknown role \"toString\": it must be one of 'system', 'developer', 'user', 'assistant', 'tool', 'function'",
  ],
  ['no content', user({}), 'messages[0].content', ", message 1 is missing key 'content'"],
  [
    'content that is null',
    user({ content: null }),
    'messages[0].content',
    ", message 1: 'content' must be a string or a list of text parts",
  ],
  [
    'an image',
    user({ content: [{ type: 'image_url', image_url: { url: 'x' } }] }),
    'messages[0].content[0].type',
    ', message 1: content part 1 has the type "image_url": only \'text\' is supported',
  ],
  [
    'a part without text',
    user({ content: [{ type: 'text', text: 'a' }, { type: 'text' }] }),
    'messages[0].content[1].text',
    ', message 1: content part 2 has no text',
  ],
  [
    'an unknown key of a message',
    user({ content: 'a', foo: 1 }),
    'messages[0].foo',
    ', message 1 contains an extra "foo".',
  ],
  [
    "a user's weight",
    user({ content: 'a', weight: 1 }),
    'messages[0].weight',
    ', message 1 contains an extra "weight".',
  ],
  [
    'a name that is no string',
    user({ content: 'a', name: 7 }),
    'messages[0].name',
    ", message 1: 'name' must be a string",
  ],
  [
    'no answer',
    { messages: [{ role: 'user', content: 'a' }] },
    'messages',
    ' has no message of the assistant',
  ],
  [
    'an empty answer',
    answered({ content: '' }),
    'messages[1].content',
    ", message 2 is missing key 'content' (it is empty, and there are no tool calls)",
  ],
  [
    'an answer without content',
    { messages: [{ role: 'assistant' }] },
    'messages[0].content',
    ", message 1 is missing key 'content'",
  ],
  [
    'only weights of 0',
    answered({ weight: 0 }),
    'messages',
    ' has nothing to train on: the weight of every assistant message is 0',
  ],
  [
    'a weight of a half',
    answered({ weight: 0.5 }),
    'messages[1].weight',
    ', message 2 has the weight 0.5: it must be 0 or 1',
  ],
  [
    'a weight that is text',
    answered({ weight: '1' }),
    'messages[1].weight',
    ', message 2 has the weight "1": it must be 0 or 1',
  ],
  [
    'tool calls that are no list',
    answered({ tool_calls: {} }),
    'messages[1].tool_calls',
    ", message 2: 'tool_calls' must be a list of at least one call",
  ],
  [
    'a call without id',
    call({ id: undefined }),
    'messages[1].tool_calls[0].id',
    ", message 2: tool call 1 needs an 'id' that is a string",
  ],
  [
    'a call of another type',
    call({ type: 'x' }),
    'messages[1].tool_calls[0].type',
    ", message 2: tool call 1 must have the type 'function'",
  ],
  [
    'a call of nothing',
    call({ function: undefined }),
    'messages[1].tool_calls[0].function.name',
    ', message 2: tool call 1 needs a function with a name',
  ],
  [
    'arguments that are an object',
    call({ function: { name: 'f', arguments: {} } }),
    'messages[1].tool_calls[0].function.arguments',
    ", message 2: tool call 1 needs 'arguments' that are a string of JSON",
  ],
  [
    'a tool message without its call',
    { messages: [...GOOD.messages, { role: 'tool', content: 'a' }] },
    'messages[2].tool_call_id',
    ", message 3 is missing key 'tool_call_id'",
  ],
  ['tools that are no list', { ...GOOD, tools: {} }, 'tools', ": 'tools' must be a list"],
  [
    'a tool of another type',
    tool({ type: 'code' }),
    'tools[0].type',
    ", tool 1 must have the type 'function'",
  ],
  [
    'a tool without a function',
    tool({ function: undefined }),
    'tools[0].function',
    ", tool 1 needs a 'function' that is an object",
  ],
  [
    'a tool with a wrong name',
    tool({ function: { name: 'a b' } }),
    'tools[0].function.name',
    ", tool 1 needs a name of 1 to 64 letters, digits, '_' or '-'",
  ],
  [
    'parameters that are no schema',
    tool({ function: { name: 'f', parameters: [] } }),
    'tools[0].function.parameters',
    ", tool 1: 'parameters' must be a JSON schema",
  ],
  [
    'parallel_tool_calls that is text',
    { ...GOOD, parallel_tool_calls: 'no' },
    'parallel_tool_calls',
    ": 'parallel_tool_calls' must be true or false",
  ],
  [
    'another format',
    { prompt: 'a', completion: 'b' },
    '',
    ' is in the fine-tune-completions format, but the file begins in the fine-tune-chat format',
  ],
  [
    'a nest',
    { ...GOOD, tools: JSON.parse('['.repeat(100) + ']'.repeat(100)) },
    '',
    ' is nested more than 64 levels deep',
  ],
])('%s', async (_, line, path, text) => {
  const report = await validate([GOOD, line, GOOD]);
  expect(report.errors).toEqual([{ line: 2, path, message: `Example 2${text}` }]);
  expect(report).toMatchObject({ examples: 3, errorCount: 1, badLines: 1, format: 'chat' });
});

test.each<[string, object, string, string]>([
  ['no completion', { prompt: 'a' }, 'completion', " is missing key 'completion'"],
  ['no prompt', { completion: 'a' }, 'prompt', " is missing key 'prompt'"],
  ['an empty completion', { prompt: 'a', completion: '' }, 'completion', ' has an empty completion'],
  [
    'a completion that is no text',
    { prompt: 'a', completion: 7 },
    'completion',
    ": 'completion' must be a string",
  ],
  ['an unknown key', { prompt: 'a', completion: 'b', weight: 1 }, 'weight', ' contains an extra "weight".'],
])('prompt and completion: %s', async (_, line, path, text) => {
  const report = await validate([{ prompt: '', completion: ' b' }, line]);
  expect(report.errors).toEqual([{ line: 2, path, message: `Example 2${text}` }]);
});

const pair = { anchor: 'a question', positive: 'its answer' };

test.each<[string, object, string, string]>([
  ['a positive is missing', { anchor: 'a' }, 'positive', " is missing key 'positive'"],
  ['an anchor is missing', { positive: 'a' }, 'anchor', " is missing key 'anchor'"],
  [
    'a blank anchor',
    { ...pair, anchor: ' ' },
    'anchor',
    ': \'anchor\' must be a string that is not empty, not " "',
  ],
  [
    'a negative that is a list',
    { ...pair, negative: ['b'] },
    'negative',
    ': \'negative\' must be a string that is not empty, not ["b"]',
  ],
  ['an extra key', { ...pair, score: 1 }, 'score', ' contains an extra "score".'],
  ['another format', GOOD, '', ' is in the fine-tune-chat format, but the file begins in the pairs format'],
])('a line of pairs: %s', async (_, line, path, text) => {
  const report = await validate([pair, { ...pair, negative: 'c' }, line], 'training', 'embedding');
  expect(report.format).toBe('pairs');
  expect(report.errors).toEqual([{ line: 3, path, message: `Example 3${text}` }]);
});

test('what is right passes: roles, parts, weights, tools, the deprecated forms', async () => {
  const lines = [
    GOOD,
    {
      messages: [
        { role: 'developer', content: 'x' },
        { role: 'system', content: '' },
        ...GOOD.messages,
        { role: 'user', content: 'c' },
      ],
    },
    {
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'a' }], name: 'n' },
        { role: 'assistant', content: [{ type: 'text', text: 'b' }] },
      ],
    },
    {
      messages: [
        { role: 'assistant', content: 'b', weight: 0 },
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b', weight: 1 },
      ],
    },
    {
      ...call({}),
      tools: [{ type: 'function', function: { name: 'f', description: 'd', parameters: {}, strict: true } }],
      parallel_tool_calls: false,
    },
    {
      messages: [
        ...call({}).messages,
        { role: 'tool', tool_call_id: 'c', content: '1' },
        { role: 'assistant', content: 'b' },
      ],
      tools: null,
    },
    {
      messages: [
        { role: 'assistant', content: null, function_call: { name: 'f', arguments: '' } },
        { role: 'function', name: 'f', content: '1' },
      ],
      functions: [{ name: 'f', parameters: {} }],
    },
    answered({ content: null, refusal: 'I cannot.' }),
    '  {"messages":[{"role":"assistant","content":"b"}]}  ',
    '',
    GOOD,
  ];
  const report = await validate(lines);
  expect(report).toEqual({
    kind: 'training',
    method: 'supervised',
    format: 'chat',
    labels: null,
    problem: null,
    examples: 10,
    errors: [],
    errorCount: 0,
    badLines: 0,
  });
  expect(toJobError(report, 'file-1', 'training_file')).toBeNull();
});

test('what is wrong with a hundred lines is kept, all is counted, whatever its size', async () => {
  const lines = Array.from({ length: 250 }, () => answered({ weight: 'x'.repeat(500), y: 1 }));
  const report = await validate(lines);
  expect(report).toMatchObject({ examples: 250, errorCount: 500, badLines: 250 });
  expect(report.errors.map(({ line }) => line)).toEqual(
    lines.slice(0, 100).flatMap((_, i) => [i + 1, i + 1]),
  );
  expect(report.errors[1]!.message.length).toBeLessThan(150);
});

test('of a line with thousands of mistakes ten are kept', async () => {
  const robots = { messages: Array.from({ length: 5000 }, () => ({ role: 'robot', content: 'x' })) };
  const report = await validate([GOOD, robots, { messages: [] }]);
  expect(report.errors.map(({ line }) => line)).toEqual([...Array(10).fill(2), 3]);
  expect(report.errorCount).toBeGreaterThan(5000);
});

test('bytes that are not UTF-8 and a line over the limit are findings of their lines', async () => {
  const long = Buffer.alloc(33 * 1024 * 1024, 0x20);
  const source = [Buffer.from([0x22, 0xc3, 0x28, 0x0a]), long, Buffer.from(`\n${JSON.stringify(GOOD)}`)];
  const report = await validateTrainingFile(source, { kind: 'validation', method: 'supervised' });
  expect(report.errors.map(({ line, message }) => [line, message])).toEqual([
    [1, 'Example 1 cannot be parsed. Error: line is not valid UTF-8 (byte 3) (line 1)'],
    [2, 'Example 2 cannot be parsed. Error: line is longer than 33554432 bytes (line 2)'],
  ]);
});

const jobError = async (
  lines: (object | string)[],
  kind: FileKind = 'training',
  method: Method = 'supervised',
) =>
  toJobError(
    await validate(lines, kind, method),
    'file-abc',
    kind === 'training' ? 'training_file' : 'validation_file',
  );

test('too few examples', async () => {
  expect(await jobError(Array(7).fill(GOOD))).toEqual({
    code: 'invalid_n_examples',
    param: 'training_file',
    message: 'Training file has 7 example(s), but must have at least 10 examples',
  });
  expect(await jobError(Array(10).fill(GOOD))).toBeNull();
  expect(await jobError([GOOD], 'validation')).toBeNull();
});

test('an empty file', async () => {
  expect(await jobError([])).toMatchObject({
    code: 'invalid_n_examples',
    message: 'Training file has 0 example(s), but must have at least 10 examples',
  });
  expect(await jobError(['', ' '], 'validation')).toEqual({
    code: 'invalid_n_examples',
    param: 'validation_file',
    message: 'Validation file has 0 example(s), but must have at least 1 example',
  });
});

test('a wrong line, to the letter; more of them are told of', async () => {
  const wrong = user({ role: undefined, content: 'a' });
  expect(
    await jobError([...Array(99).fill(GOOD), { messages: [GOOD.messages[0], { content: 'b' }] }]),
  ).toEqual({
    code: 'invalid_training_file',
    param: 'training_file',
    message:
      "The job failed due to an invalid training file. Invalid file format. Example 100, message 2 Discriminator 'role' is missing in value",
  });
  expect(await jobError([wrong, wrong, wrong], 'validation')).toEqual({
    code: 'invalid_validation_file',
    param: 'validation_file',
    message:
      "The job failed due to an invalid validation file. Invalid file format. Example 1, message 1 Discriminator 'role' is missing in value (2 more: see the job's events)",
  });
});

test('an extra key', async () => {
  expect(await jobError([{ ...GOOD, weight: 1 }])).toEqual({
    code: 'invalid_file_format',
    param: 'training_file',
    message:
      'The job failed due to a file format error in the training file. Invalid file format. Example 1 contains an extra "weight".',
  });
});

test('a format that does not fit the method', async () => {
  expect(await jobError(Array(10).fill(GOOD), 'training', 'dpo')).toEqual({
    code: 'invalid_training_file',
    param: 'training_file',
    message:
      "The job failed due to an invalid training file. Invalid file format. Input file file-abc is in the fine-tune-chat format, but the specified fine-tuning job is not using 'supervised' as the training method (provided method=dpo). ",
  });
  const preference = { input: { messages: [] }, preferred_output: [], non_preferred_output: [] };
  expect((await jobError(Array(10).fill(preference)))?.message).toContain(
    "is in the fine-tune-preference format, but the specified fine-tuning job is not using 'dpo' as the training method (provided method=supervised). ",
  );
});
