// Tools and response formats through the official client, against tiny models that really run.
import { Ajv2020 } from 'ajv/dist/2020.js';
import type OpenAI from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { BASE, failureOf, useServing } from './serving.ts';
import { FAMILIES, storeToolModels, TOOL_CALLS_TOKEN } from './tool-models.ts';

const server = useServing();
beforeAll(() => storeToolModels(server.deps));

const messages = [{ role: 'user', content: 'Weather?' }];
const schema = {
  type: 'object',
  properties: {
    city: { enum: ['Paris', 'Oslo'] },
    days: { type: 'integer', minimum: 1, maximum: 14 },
    note: { anyOf: [{ type: 'string', maxLength: 5 }, { type: 'null' }] },
  },
  required: ['city', 'days', 'note'],
  additionalProperties: false,
};
const validate = new Ajv2020().compile(schema);
const weather = { type: 'function', function: { name: 'weather', parameters: schema, strict: true } };
const time = { type: 'function', function: { name: 'time' } };
const format = { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } };

type Completion = OpenAI.ChatCompletion;
const create = (body: object) =>
  server.client.chat.completions.create({ messages, ...body } as never) as unknown as Promise<Completion>;
const callsOf = ({ choices }: Completion) =>
  choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];

describe('response_format', () => {
  test('json_schema: every answer is what the schema allows, however wild the sampling', async () => {
    const { choices } = await create({ model: BASE, response_format: format, n: 8, temperature: 2, seed: 3 });
    for (const { message, finish_reason } of choices) {
      expect(finish_reason).toBe('stop');
      expect(validate(JSON.parse(message.content!)), message.content!).toBe(true);
    }
    expect(new Set(choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
  });

  test('a stream says the same', async () => {
    const body = { model: BASE, response_format: format, seed: 9, messages };
    const final = await server.client.chat.completions.stream(body as never).finalChatCompletion();
    expect(final.choices[0]!.message.content).toBe((await create(body)).choices[0]!.message.content);
  });

  test('json_object: an object, or the beginning of one where the limit is reached', async () => {
    const { choices } = await create({
      model: BASE,
      response_format: { type: 'json_object' },
      n: 8,
      seed: 1,
      temperature: 1.5,
    });
    for (const { message, finish_reason } of choices) {
      expect(message.content!.trimStart().startsWith('{')).toBe(true);
      if (finish_reason === 'stop') expect(JSON.parse(message.content!)).toBeTypeOf('object');
      else expect(finish_reason).toBe('length');
    }
  });

  test('a limit in the middle of it ends it with length', async () => {
    const { choices } = await create({ model: BASE, response_format: format, max_tokens: 4 });
    expect(choices[0]!.finish_reason).toBe('length');
  });

  test('log-probabilities are those of the model, of the tokens that were taken', async () => {
    const { choices } = await create({
      model: BASE,
      response_format: format,
      logprobs: true,
      top_logprobs: 1,
    });
    const tokens = choices[0]!.logprobs!.content!;
    expect(Buffer.from(tokens.flatMap(({ bytes }) => bytes!)).toString()).toBe(choices[0]!.message.content);
    expect(tokens.every(({ logprob }) => logprob < 0)).toBe(true);
  });

  test('strict false passes over what it cannot hold to', async () => {
    const loose = { type: 'object', properties: { a: { type: 'number', multipleOf: 2 } }, required: ['a'] };
    const json_schema = { name: 'a', schema: loose };
    const { choices } = await create({ model: BASE, response_format: { type: 'json_schema', json_schema } });
    expect(JSON.parse(choices[0]!.message.content!)).toEqual({ a: expect.any(Number) });
  });
});

describe.each(FAMILIES)('tools of %s', model => {
  test('required: a call, its arguments as the schema says', async () => {
    const completion = await create({
      model,
      tools: [weather],
      tool_choice: 'required',
      parallel_tool_calls: false,
      temperature: 2,
      seed: 5,
    });
    const { message, finish_reason } = completion.choices[0]!;
    expect(finish_reason).toBe('tool_calls');
    expect(message.content).toBeNull();
    const [call] = callsOf(completion);
    expect(callsOf(completion)).toHaveLength(1);
    expect(call).toMatchObject({ type: 'function', function: { name: 'weather' } });
    expect(call!.id).toMatch(model === 'mistral-tiny' ? /^[A-Za-z0-9]{9}$/ : /^call_[A-Za-z0-9]{24}$/);
    expect(validate(JSON.parse(call!.function.arguments)), call!.function.arguments).toBe(true);
  });

  test("a stream, put together by the client's helper, gives the same call", async () => {
    const body = {
      model,
      messages,
      tools: [weather],
      tool_choice: 'required',
      parallel_tool_calls: false,
      seed: 6,
    };
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    const runner = server.client.chat.completions
      .stream(body as never)
      .on('chunk', chunk => chunks.push(chunk));
    const final = await runner.finalChatCompletion();
    const whole = callsOf(await create(body));
    expect(callsOf(final as Completion).map(call => call.function.arguments)).toEqual(
      whole.map(call => call.function.arguments),
    );
    const parts = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    expect(parts.length).toBeGreaterThan(3);
    expect(parts[0]).toMatchObject({
      index: 0,
      id: expect.any(String),
      type: 'function',
      function: { name: 'weather' },
    });
    expect(parts.slice(1).every(({ id }) => id === undefined)).toBe(true);
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe('tool_calls');
  });

  test('the call and what the tool said go on in the conversation', async () => {
    const asked = await create({
      model,
      tools: [weather],
      tool_choice: 'required',
      parallel_tool_calls: false,
    });
    const [call] = callsOf(asked);
    const next = [
      ...messages,
      asked.choices[0]!.message,
      { role: 'tool', tool_call_id: call!.id, content: '9' },
    ];
    const answer = await create({ model, messages: next, tools: [weather], max_tokens: 3 });
    expect(answer.usage!.prompt_tokens).toBeGreaterThan(asked.usage!.prompt_tokens + 10);
  });

  test('a named function is the one that is called', async () => {
    const tool_choice = { type: 'function', function: { name: 'time' } };
    const completion = await create({
      model,
      tools: [weather, time],
      tool_choice,
      parallel_tool_calls: false,
      max_tokens: 60,
    });
    expect(callsOf(completion).map(call => call.function)).toEqual([
      { name: 'time', arguments: expect.stringMatching(/^\{\s*\}$/) },
    ]);
  });

  test('allowed_tools are the only ones there are', async () => {
    const tools = [{ type: 'function', function: { name: 'time' } }];
    const tool_choice = { type: 'allowed_tools', allowed_tools: { mode: 'required', tools } };
    const completion = await create({
      model,
      tools: [weather, time],
      tool_choice,
      parallel_tool_calls: false,
      max_tokens: 60,
    });
    expect(callsOf(completion)[0]!.function.name).toBe('time');
  });

  test('none: the model does not hear of tools', async () => {
    const [without, none] = [
      await create({ model, max_tokens: 4, temperature: 0 }),
      await create({ model, tools: [weather], tool_choice: 'none', max_tokens: 4, temperature: 0 }),
    ];
    expect(none.usage!.prompt_tokens).toBe(without.usage!.prompt_tokens);
    expect(none.choices[0]!.message).toEqual(without.choices[0]!.message);
  });

  test('functions, the deprecated form', async () => {
    const completion = await create({
      model,
      functions: [weather.function],
      function_call: { name: 'weather' },
    });
    const { message, finish_reason } = completion.choices[0]!;
    expect(finish_reason).toBe('function_call');
    expect(validate(JSON.parse(message.function_call!.arguments))).toBe(true);
  });
});

describe('arguments that are elements', () => {
  const parameters = {
    type: 'object',
    properties: {
      code: { type: 'string', minLength: 1, maxLength: 20 },
      kind: { enum: ['a b', 7, null] },
      sizes: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 9 }, minItems: 1, maxItems: 3 },
      place: { $ref: '#/$defs/place' },
      sure: { type: ['boolean', 'null'] },
    },
    required: ['code', 'kind', 'sizes', 'place', 'sure'],
    additionalProperties: false,
    $defs: {
      place: {
        type: 'object',
        properties: { name: { type: 'string', maxLength: 4 } },
        required: ['name'],
        additionalProperties: false,
      },
    },
  };
  const call = (more: object, sampling: object = {}) =>
    create({
      model: 'qwen3-coder-tiny',
      tools: [{ type: 'function', function: { name: 'f', ...more } }],
      tool_choice: 'required',
      parallel_tool_calls: false,
      ...sampling,
    });

  test('are what a strict schema says, however wild the sampling', async () => {
    const isValid = new Ajv2020({ allowUnionTypes: true }).compile(parameters);
    const { choices } = await call({ parameters, strict: true }, { temperature: 2, n: 8, seed: 4 });
    for (const { message, finish_reason } of choices) {
      expect(finish_reason).toBe('tool_calls');
      const [made] = message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
      const given = made!.function.arguments;
      expect(isValid(JSON.parse(given)), given).toBe(true);
    }
  });

  test('of a loose schema are an object, or the beginning of one', async () => {
    const some = {
      type: 'object',
      properties: { a: { type: 'string', pattern: '^x$' }, b: {} },
      required: ['a'],
    };
    for (const more of [{ parameters: { type: 'object' } }, { parameters: some }]) {
      const completion = await call(more, { max_tokens: 80, seed: 1 });
      expect(callsOf(completion)[0]?.function.name ?? 'f').toBe('f');
    }
  });

  test('a strict string that only JSON could be held to is a 400', async () => {
    const withPattern = {
      type: 'object',
      properties: { a: { type: 'string', pattern: '^x$' } },
      required: ['a'],
      additionalProperties: false,
    };
    expect(await failureOf(call({ parameters: withPattern, strict: true }))).toMatchObject({
      status: 400,
      param: 'tools[0].function.parameters.properties.a.pattern',
      message: expect.stringContaining('which writes strings without quotes'),
    });
  });
});

describe('tools as the model decides', () => {
  const bias = { [TOOL_CALLS_TOKEN]: 100 };

  test('a strict tool is called as its schema says from the mark on', async () => {
    const completion = await create({
      model: 'mistral-tiny',
      tools: [weather],
      logit_bias: bias,
      temperature: 2,
      seed: 2,
      parallel_tool_calls: false,
    });
    expect(completion.choices[0]!.finish_reason).toBe('tool_calls');
    expect(validate(JSON.parse(callsOf(completion)[0]!.function.arguments))).toBe(true);
  });

  test('words are words', async () => {
    const { choices } = await create({
      model: 'mistral-tiny',
      tools: [weather],
      logit_bias: { [TOOL_CALLS_TOKEN]: -100 },
      max_tokens: 8,
    });
    expect(choices[0]!.message).not.toHaveProperty('tool_calls');
    expect(choices[0]!.message.content).not.toBe('');
  });

  test('with a format of the response: a call, or an answer in that format', async () => {
    const { choices } = await create({
      model: 'hermes-tiny',
      tools: [weather],
      response_format: format,
      n: 6,
      temperature: 2,
      seed: 8,
      parallel_tool_calls: false,
    });
    for (const { message } of choices) {
      const written = message.tool_calls
        ? (message.tool_calls[0] as OpenAI.ChatCompletionMessageFunctionToolCall).function.arguments
        : message.content!;
      expect(validate(JSON.parse(written)), written).toBe(true);
    }
  });
});

describe('400', () => {
  const tools = [weather];
  test.each<[string, string, object]>([
    ['tools', 'a model whose template has no place for tools', { model: BASE, tools }],
    ['tool_choice', 'a choice without tools', { model: BASE, tool_choice: 'required' }],
    [
      'tool_choice',
      'a function that is not there',
      { tools, tool_choice: { type: 'function', function: { name: 'x' } } },
    ],
    [
      'tool_choice',
      'a kind of choice that is not served',
      { tools, tool_choice: { type: 'custom', custom: { name: 'x' } } },
    ],
    ['tools[0]', 'a kind of tool that is not served', { tools: [{ type: 'custom', custom: { name: 'x' } }] }],
    ['tools[0].function', 'a tool without a function', { tools: [{ type: 'function' }] }],
    [
      'tools[0].function.name',
      'a name with a space',
      { tools: [{ type: 'function', function: { name: 'a b' } }] },
    ],
    ['tools[1].function.name', 'two of one name', { tools: [weather, weather] }],
    [
      'tools[0].function.parameters.properties.a.multipleOf',
      'a strict tool that cannot be held to',
      {
        tools: [
          {
            type: 'function',
            function: {
              name: 'f',
              strict: true,
              parameters: { type: 'object', properties: { a: { type: 'integer', multipleOf: 2 } } },
            },
          },
        ],
      },
    ],
    ['response_format.json_schema', 'no schema', { response_format: { type: 'json_schema' } }],
    [
      'response_format.json_schema.schema.properties.a.format',
      'a format that is not known',
      {
        response_format: {
          type: 'json_schema',
          json_schema: {
            name: 'a',
            strict: true,
            schema: { type: 'object', properties: { a: { type: 'string', format: 'color' } } },
          },
        },
      },
    ],
    [
      'response_format.json_schema.schema',
      'a schema without values',
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'a', strict: true, schema: { type: 'integer', minimum: 3, maximum: 2 } },
        },
      },
    ],
    [
      'messages[1].role',
      'an answer to no call',
      { messages: [...messages, { role: 'tool', tool_call_id: 'x', content: '1' }] },
    ],
    [
      'messages[1].tool_call_id',
      'an answer to nothing',
      { messages: [...messages, { role: 'tool', content: '1' }] },
    ],
    ['functions', 'both forms at once', { tools, functions: [weather.function] }],
  ])('%s: %s', async (param, _, body) => {
    const error = await failureOf(create({ model: 'hermes-tiny', ...body }));
    expect(error.status).toBe(400);
    expect(error.param).toBe(param);
  });
});
