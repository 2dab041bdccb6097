// POST /v1/responses through the official client, against tiny models that really run.
import { setTimeout as sleep } from 'node:timers/promises';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type OpenAI from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { BASE, failureOf, useServing } from './serving.ts';
import { storeToolModels } from './tool-models.ts';

const server = useServing();
beforeAll(() => storeToolModels(server.deps));

type Response = OpenAI.Responses.Response;
const responses = () => server.client.responses;
const create = (body: object = {}) =>
  responses().create({
    model: BASE,
    input: 'Hello',
    temperature: 0,
    max_output_tokens: 16,
    ...body,
  } as never) as unknown as Promise<Response>;
const schema = {
  type: 'object',
  properties: { city: { enum: ['Paris', 'Oslo'] }, days: { type: 'integer', minimum: 1, maximum: 14 } },
  required: ['city', 'days'],
  additionalProperties: false,
};
const validate = new Ajv2020().compile(schema);
const weather = { type: 'function', name: 'weather', parameters: schema, strict: true };

async function eventsOf(body: object): Promise<OpenAI.Responses.ResponseStreamEvent[]> {
  const events = [];
  const stream = (await create({
    ...body,
    stream: true,
  })) as unknown as AsyncIterable<OpenAI.Responses.ResponseStreamEvent>;
  for await (const event of stream) events.push(event);
  return events;
}

describe('create', () => {
  test('a text is answered as chat completions answer it', async () => {
    const response = await create();
    expect(response).toMatchObject({
      object: 'response',
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      model: BASE,
      store: true,
      tools: [],
      tool_choice: 'auto',
      truncation: 'disabled',
      text: { format: { type: 'text' } },
      usage: { output_tokens: 16 },
    });
    const chat = await server.client.chat.completions.create({
      model: BASE,
      messages: [{ role: 'user', content: 'Hello' }],
      temperature: 0,
      max_tokens: 16,
    });
    expect(response.output_text).toBe(chat.choices[0]!.message.content);
    expect(response.usage).toMatchObject({ input_tokens: chat.usage!.prompt_tokens });
  });

  test('items and instructions', async () => {
    const input = [
      { role: 'developer', content: 'Be kind.' },
      { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Hello' }] },
      { role: 'assistant', content: [{ type: 'output_text', text: 'Hi' }] },
      { role: 'user', content: 'More' },
    ];
    const response = await create({ input, instructions: 'Be short.' });
    const messages = [
      { role: 'system', content: 'Be short.' },
      { role: 'developer', content: 'Be kind.' },
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'Hi' },
      { role: 'user', content: 'More' },
    ];
    const chat = (await server.client.chat.completions.create({
      model: BASE,
      messages,
      temperature: 0,
      max_tokens: 16,
    } as never)) as unknown as OpenAI.ChatCompletion;
    expect(response.output_text).toBe(chat.choices[0]!.message.content);
  });

  test('text.format: the answer is what the schema allows', async () => {
    const format = { type: 'json_schema', name: 'answer', schema, strict: true };
    const response = await create({ text: { format }, temperature: 2, max_output_tokens: 200 });
    expect(response.status).toBe('completed');
    expect(validate(JSON.parse(response.output_text)), response.output_text).toBe(true);
    expect(response.text).toMatchObject({ format });
  });

  test('log-probabilities where they are asked for', async () => {
    const response = await create({ include: ['message.output_text.logprobs'], top_logprobs: 2 });
    const [part] = (response.output[0] as OpenAI.Responses.ResponseOutputMessage)
      .content as OpenAI.Responses.ResponseOutputText[];
    expect(part!.logprobs).toHaveLength(16);
    expect(part!.logprobs![0]!.top_logprobs).toHaveLength(2);
  });

  test('a function is called, answered, and the conversation goes on', async () => {
    const tools = [weather];
    const asked = await create({
      model: 'hermes-tiny',
      tools,
      tool_choice: 'required',
      parallel_tool_calls: false,
      max_output_tokens: 200,
    });
    expect(asked.status).toBe('completed');
    const call = asked.output[0] as OpenAI.Responses.ResponseFunctionToolCall;
    expect(call).toMatchObject({
      type: 'function_call',
      name: 'weather',
      status: 'completed',
      call_id: expect.stringMatching(/^call_/),
    });
    expect(validate(JSON.parse(call.arguments))).toBe(true);
    const output = { type: 'function_call_output', call_id: call.call_id, output: '9 degrees' };
    const next = await create({
      model: 'hermes-tiny',
      tools,
      previous_response_id: asked.id,
      input: [output],
    });
    expect(next.usage!.input_tokens).toBeGreaterThan(asked.usage!.input_tokens + 10);
    const inline = await create({
      model: 'hermes-tiny',
      tools,
      input: [{ role: 'user', content: 'Hello' }, call, output],
    });
    expect(inline.output_text).toBe(next.output_text);
  });
});

describe('previous_response_id', () => {
  test('goes on from the whole conversation', async () => {
    const first = await create();
    const second = await create({ input: 'And?', previous_response_id: first.id });
    const third = await create({ input: 'So?', previous_response_id: second.id });
    const input = [
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: first.output_text },
      { role: 'user', content: 'And?' },
      { role: 'assistant', content: second.output_text },
      { role: 'user', content: 'So?' },
    ];
    expect((await create({ input })).output_text).toBe(third.output_text);
  });

  test('not from one that is gone, or was not kept, or is not theirs', async () => {
    const first = await create();
    const second = await create({ previous_response_id: first.id });
    expect(
      await failureOf(
        server.otherClient.responses.create({ model: BASE, input: 'x', previous_response_id: first.id }),
      ),
    ).toMatchObject({ status: 400, param: 'previous_response_id' });
    await responses().delete(first.id);
    const unkept = await create({ store: false });
    for (const previous_response_id of [first.id, second.id, unkept.id])
      expect(await failureOf(create({ previous_response_id }))).toMatchObject({
        status: 400,
        param: 'previous_response_id',
      });
  });
});

describe('truncation', () => {
  const long = Array.from({ length: 60 }, (_, i) => [
    { role: 'user', content: `Question ${i}?` },
    { role: 'assistant', content: `Answer ${i}.` },
  ]).flat();
  const input = [{ role: 'system', content: 'Be kind.' }, ...long, { role: 'user', content: 'Last' }];

  test('auto leaves out the oldest', async () => {
    const response = await create({ input, truncation: 'auto' });
    expect(response.usage!.input_tokens).toBeLessThanOrEqual(240);
    expect(response.usage!.input_tokens).toBeGreaterThan(150);
  });

  test('disabled is a 400', async () => {
    expect(await failureOf(create({ input }))).toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
      param: 'input',
    });
  });
});

describe('stream', () => {
  test('the events of a text, in the order that is documented', async () => {
    const events = await eventsOf({});
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
    const types = events.map(({ type }) => type);
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.incomplete',
    ]);
    const text = events
      .map(event => (event.type === 'response.output_text.delta' ? event.delta : ''))
      .join('');
    expect(text).toBe((await create()).output_text);
  });

  test('the events of a call', async () => {
    const events = await eventsOf({
      model: 'hermes-tiny',
      tools: [weather],
      tool_choice: 'required',
      parallel_tool_calls: false,
      max_output_tokens: 200,
    });
    const types = events.map(({ type }) => type);
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.function_call_arguments.delta',
      'response.function_call_arguments.done',
      'response.output_item.done',
      'response.completed',
    ]);
    const done = events.find(event => event.type === 'response.function_call_arguments.done')!;
    const deltas = events.map(event =>
      event.type === 'response.function_call_arguments.delta' ? event.delta : '',
    );
    expect(deltas.join('')).toBe(done.arguments);
    expect((done as { name?: string }).name).toBe('weather');
  });

  test("the client's helper puts it together, and it is kept", async () => {
    const stream = responses().stream({ model: BASE, input: 'Hello', temperature: 0, max_output_tokens: 16 });
    const final = await stream.finalResponse();
    expect(final.output_text).toBe((await create()).output_text);
    expect(await responses().retrieve(final.id)).toMatchObject({
      id: final.id,
      status: 'incomplete',
      output: JSON.parse(
        JSON.stringify(final.output, [
          'id',
          'type',
          'role',
          'status',
          'content',
          'text',
          'annotations',
          'logprobs',
        ]),
      ),
    });
  });

  test('named events, and no [DONE]', async () => {
    const response = await fetch(`${server.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: BASE, input: 'Hello', stream: true, max_output_tokens: 16 }),
    });
    const text = await response.text();
    expect(text).not.toContain('[DONE]');
    for (const block of text.trim().split('\n\n'))
      expect(block).toMatch(/^event: (\S+)\ndata: \{"type":"\1"/);
  });
});

describe('stored responses', () => {
  test('retrieve, input items, delete', async () => {
    const input = [
      { role: 'user', content: 'One' },
      { role: 'assistant', content: 'Two' },
      { role: 'user', content: 'Three' },
    ];
    const { id, output } = await create({ input, metadata: { team: 'a' } });
    expect(await responses().retrieve(id)).toMatchObject({ id, output, metadata: { team: 'a' } });
    const page = await responses().inputItems.list(id, { limit: 2 });
    const texts = (items: unknown[]) =>
      (items as { content: { text: string }[] }[]).map(({ content }) => content[0]!.text);
    expect(texts(page.data)).toEqual(['Three', 'Two']);
    expect(texts((await page.getNextPage()).data)).toEqual(['One']);
    expect(texts((await responses().inputItems.list(id, { order: 'asc' })).data)).toEqual([
      'One',
      'Two',
      'Three',
    ]);
    await responses().delete(id);
    for (const request of [
      () => responses().retrieve(id),
      () => responses().inputItems.list(id),
      () => responses().delete(id),
      () => responses().cancel(id),
    ])
      expect(await failureOf(request())).toMatchObject({ status: 404, param: 'response_id' });
  });

  test('one that is not to be kept is not', async () => {
    const { id } = await create({ store: false });
    expect(await failureOf(responses().retrieve(id))).toMatchObject({ status: 404 });
  });

  test('another project has none of it', async () => {
    const { id } = await create();
    const other = server.otherClient.responses;
    for (const request of [() => other.retrieve(id), () => other.delete(id), () => other.inputItems.list(id)])
      expect(await failureOf(request())).toMatchObject({ status: 404 });
  });
});

describe('background', () => {
  const ended = async (id: string): Promise<Response> => {
    for (;;) {
      const response = await responses().retrieve(id);
      if (!['queued', 'in_progress'].includes(response.status!)) return response;
      await sleep(20);
    }
  };

  test('answers at once, and is done later', async () => {
    const queued = await create({ background: true });
    expect(queued).toMatchObject({ status: 'queued', background: true, output: [] });
    const response = await ended(queued.id);
    expect(response).toMatchObject({ status: 'incomplete', usage: { output_tokens: 16 } });
    expect(response.output_text).toBe((await create()).output_text);
    const { data } = (await server.admin.usage.completions({ start_time: 0 } as never)) as unknown as {
      data: unknown[];
    };
    expect(data).toBeDefined();
  });

  test('cancelled, it stays so', async () => {
    const { id } = await create({ background: true, max_output_tokens: 200 });
    expect(await responses().cancel(id)).toMatchObject({ id, status: 'cancelled' });
    await sleep(100);
    expect(await responses().retrieve(id)).toMatchObject({ status: 'cancelled' });
    expect(await responses().cancel(id)).toMatchObject({ status: 'cancelled' });
  });

  test('what is wrong with its prompt is its failure', async () => {
    const { id } = await create({ background: true, input: 'word '.repeat(400) });
    expect(await ended(id)).toMatchObject({
      status: 'failed',
      error: { code: 'server_error', message: expect.stringContaining('context length') },
    });
  });

  test('one whose api died has failed', async () => {
    const { id } = await create({ background: true });
    await ended(id);
    await server.database.pool.query(
      `update responses set status = 'in_progress', lease_until = now() - interval '1 second',
       response = (response::jsonb || '{"status": "in_progress"}')::json where id = $1`,
      [id],
    );
    expect(await responses().retrieve(id)).toMatchObject({
      status: 'failed',
      error: { code: 'server_error' },
    });
  });

  test('only those can be cancelled', async () => {
    const { id } = await create();
    expect(await failureOf(responses().cancel(id))).toMatchObject({ status: 400, param: 'response_id' });
  });
});

describe('400', () => {
  test.each<[string, object]>([
    ['model', { model: undefined }],
    ['input', { input: undefined }],
    ['input', { input: [] }],
    ['input[0]', { input: [{ type: 'computer_call_output', call_id: 'x' }] }],
    [
      'input[0].content[0]',
      { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] },
    ],
    ['input[0].content', { input: [{ role: 'user' }] }],
    ['input', { input: [{ type: 'function_call_output', call_id: 'x', output: 'y' }] }],
    ['tools[0]', { tools: [{ type: 'web_search' }] }],
    ['tools[0].name', { tools: [{ type: 'function' }] }],
    ['tools', { tools: [weather] }],
    ['text.format.name', { text: { format: { type: 'json_schema', schema } } }],
    [
      'text.format.schema.properties.a.multipleOf',
      {
        text: {
          format: {
            type: 'json_schema',
            name: 'a',
            strict: true,
            schema: { type: 'object', properties: { a: { type: 'integer', multipleOf: 2 } } },
          },
        },
      },
    ],
    ['text.verbosity', { text: { verbosity: 'low' } }],
    ['max_output_tokens', { max_output_tokens: 1 }],
    ['conversation', { conversation: 'conv_1' }],
    ['reasoning', { reasoning: { effort: 'high' } }],
    ['background', { background: true, store: false }],
    ['stream', { background: true, stream: true }],
    ['include[0]', { include: ['x'] }],
    ['previous_response_id', { previous_response_id: 'resp_none' }],
    ['messages', { messages: [] }],
  ])('%s: %j', async (param, body) => {
    expect(await failureOf(create(body))).toMatchObject({ status: 400, param });
  });

  test('a stored response as a stream', async () => {
    const { id } = await create();
    expect(await failureOf(responses().retrieve(id, { stream: true }))).toMatchObject({
      status: 400,
      param: 'stream',
    });
  });
});
