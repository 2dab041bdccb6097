// POST /v1/chat/completions through the official client, against a tiny model that really runs.
import type OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { ADAPTER, BASE, FULL, failureOf, golden, OTHER_ADAPTER, useServing } from './serving.ts';

const server = useServing();
const messages = [{ role: 'user' as const, content: 'What is the weather like?' }];
const greedy = { model: BASE, messages, temperature: 0, max_tokens: 12 };

const create = (body: object) =>
  server.client.chat.completions.create(body as never) as unknown as Promise<OpenAI.ChatCompletion>;
const stream = (body: object) =>
  server.client.chat.completions.create({ ...body, stream: true } as never) as unknown as Promise<
    AsyncIterable<OpenAI.ChatCompletionChunk>
  >;
const textOf = (completion: OpenAI.ChatCompletion) => completion.choices[0]!.message.content!;

async function collect(body: object): Promise<OpenAI.ChatCompletionChunk[]> {
  const chunks = [];
  for await (const chunk of await stream(body)) chunks.push(chunk);
  return chunks;
}

describe('200', () => {
  test("an answer in OpenAI's form", async () => {
    const completion = await create(greedy);
    expect(completion).toMatchObject({ object: 'chat.completion', model: BASE });
    expect(completion.id).toMatch(/^chatcmpl-/);
    expect(Math.abs(completion.created - Date.now() / 1000)).toBeLessThan(60);
    expect(completion.choices).toHaveLength(1);
    expect(completion.choices[0]).toMatchObject({ index: 0, logprobs: null, finish_reason: 'length' });
    expect(completion.choices[0]!.message).toMatchObject({ role: 'assistant', refusal: null });
    const tokenizer = await loadTokenizer(golden(BASE));
    const prompt = tokenizer.encodeChat(messages, null, { addGenerationPrompt: true });
    expect(completion.usage).toMatchObject({
      prompt_tokens: prompt.length,
      completion_tokens: 12,
      total_tokens: prompt.length + 12,
    });
  });

  test('base, adapters and full models at once give what each gives alone', async () => {
    const models = [BASE, ADAPTER, OTHER_ADAPTER, FULL, ADAPTER, BASE];
    const together = await Promise.all(models.map(model => create({ ...greedy, model })));
    const alone = [];
    for (const model of models) alone.push(textOf(await create({ ...greedy, model })));
    expect(together.map(textOf)).toEqual(alone);
    expect(new Set(alone.slice(0, 4)).size).toBe(4);
    expect(new Set(together.map(each => each.system_fingerprint)).size).toBe(4);
  });

  test('a stream: role first, the same text as without, an end, no usage unless asked for', async () => {
    const chunks = await collect(greedy);
    expect(chunks[0]!.choices[0]!.delta).toEqual({ role: 'assistant', content: '', refusal: null });
    expect(chunks.at(-1)!.choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' });
    expect(chunks.map(chunk => chunk.choices[0]!.delta.content ?? '').join('')).toBe(
      textOf(await create(greedy)),
    );
    expect(new Set(chunks.map(({ id, created }) => `${id} ${created}`)).size).toBe(1);
    for (const chunk of chunks) {
      expect(chunk.object).toBe('chat.completion.chunk');
      expect(chunk).not.toHaveProperty('usage');
    }
    expect(chunks.slice(0, -1).every(chunk => chunk.choices[0]!.finish_reason === null)).toBe(true);
  });

  test('include_usage: null in every chunk, a last one with the usage and no choices', async () => {
    const chunks = await collect({ ...greedy, stream_options: { include_usage: true } });
    const last = chunks.pop()!;
    expect(last.choices).toEqual([]);
    expect(last.usage).toMatchObject({ completion_tokens: 12, total_tokens: last.usage!.prompt_tokens + 12 });
    expect(chunks.every(chunk => chunk.usage === null)).toBe(true);
  });

  test("the client's own helper puts a stream together", async () => {
    const runner = server.client.chat.completions.stream({
      ...greedy,
      n: 2,
      seed: 4,
      temperature: 1,
    } as never);
    const final = await runner.finalChatCompletion();
    expect(final.choices.map(({ index }) => index)).toEqual([0, 1]);
    expect(final.choices.every(({ message }) => message.role === 'assistant')).toBe(true);
  });

  test('the bytes of a stream: events of one data line, then [DONE]', async () => {
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...greedy, stream: true }),
    });
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(response.headers.get('x-request-id')).toMatch(/^req_/);
    const text = await response.text();
    expect(text.endsWith('\n\ndata: [DONE]\n\n')).toBe(true);
    expect(
      text
        .split('\n\n')
        .slice(0, -2)
        .every(event => /^data: \{.*\}$/.test(event)),
    ).toBe(true);
  });

  test('n choices with a seed: different from each other, the same again', async () => {
    const body = { ...greedy, temperature: 1, n: 3, seed: 12 };
    const [first, second] = [await create(body), await create(body)];
    const texts = first.choices.map(({ message }) => message.content);
    expect(second.choices.map(({ message }) => message.content)).toEqual(texts);
    expect(new Set(texts).size).toBe(3);
    expect(first.usage!.completion_tokens).toBeGreaterThan(12);
    const other = await create({ ...body, seed: 13 });
    expect(other.choices.map(({ message }) => message.content)).not.toEqual(texts);
  });

  test('logprobs: one entry a token, alternatives best first, the text in their bytes', async () => {
    const { choices } = await create({ ...greedy, logprobs: true, top_logprobs: 3 });
    const content = choices[0]!.logprobs!.content!;
    expect(content).toHaveLength(12);
    for (const token of content) {
      expect(token.top_logprobs).toHaveLength(3);
      // Greedy: the token is the best alternative.
      expect(token.top_logprobs[0]).toEqual({
        token: token.token,
        logprob: token.logprob,
        bytes: token.bytes,
      });
      expect(token.top_logprobs[0]!.logprob).toBeGreaterThanOrEqual(token.top_logprobs[1]!.logprob);
      expect(token.logprob).toBeLessThanOrEqual(0);
    }
    const bytes = Buffer.from(content.flatMap(token => token.bytes!));
    expect(bytes.toString('utf8')).toBe(choices[0]!.message.content);
    const streamed = await collect({ ...greedy, logprobs: true, top_logprobs: 3 });
    expect(streamed.flatMap(chunk => chunk.choices[0]!.logprobs?.content ?? [])).toEqual(content);
  });

  test('stop: the text ends before it, streaming or not, wherever token borders are', async () => {
    const whole = textOf(await create(greedy));
    const stop = whole.slice(5, 9);
    const expected = whole.slice(0, whole.indexOf(stop));
    const stopped = await create({ ...greedy, stop: ['never', stop], logprobs: true });
    expect(stopped.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: expected } });
    expect(stopped.usage!.completion_tokens).toBeLessThan(12);
    const chunks = await collect({ ...greedy, stop });
    expect(chunks.map(chunk => chunk.choices[0]!.delta.content ?? '').join('')).toBe(expected);
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe('stop');
  });

  test('logit_bias can make the model end its turn', async () => {
    const tokenizer = await loadTokenizer(golden(BASE));
    const ended = await create({ ...greedy, logit_bias: { [tokenizer.endOfTurnId!]: 100 } });
    expect(ended.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: '' } });
    expect(ended.usage!.completion_tokens).toBe(1);
  });

  test('messages in parts, every role, and parameters without effect', async () => {
    const completion = await create({
      ...greedy,
      max_tokens: null,
      max_completion_tokens: 3,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        { role: 'user', content: [{ type: 'text', text: 'Hello' }], name: 'Ann' },
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } }],
        },
        { role: 'tool', tool_call_id: 'c1', content: 'done' },
      ],
      user: 'u',
      metadata: { a: 'b' },
      store: false,
      service_tier: 'auto',
      safety_identifier: 's',
      prompt_cache_key: 'k',
      response_format: { type: 'text' },
      tools: [],
    });
    expect(completion.usage!.completion_tokens).toBe(3);
  });
});

describe('400', () => {
  test.each([
    ['messages', { messages: [] }, 'array_below_min_length'],
    ['messages', { messages: undefined }, 'missing_required_parameter'],
    ['messages[0].role', { messages: [{ role: 'robot', content: 'x' }] }, null],
    ['messages[0].content', { messages: [{ role: 'user', content: null }] }, 'invalid_type'],
    [
      'messages[0].content[0]',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'unsupported_value',
    ],
    ['temperature', { temperature: 3 }, 'decimal_above_max_value'],
    ['n', { n: 0 }, 'integer_below_min_value'],
    ['top_logprobs', { top_logprobs: 2 }, 'invalid_value'],
    ['max_tokens', { max_completion_tokens: 5 }, 'invalid_value'],
    ['logit_bias', { logit_bias: { foo: 1 } }, 'invalid_value'],
    ['logit_bias', { logit_bias: { 99999: 1 } }, 'invalid_value'],
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }, 'unsupported_parameter'],
    ['audio', { audio: { voice: 'a', format: 'mp3' } }, 'unsupported_parameter'],
    ['top_k', { top_k: 3 }, 'unknown_parameter'],
  ])('%s: %j', async (param, change, code) => {
    const error = await failureOf(create({ ...greedy, ...change }));
    expect(error.status).toBe(400);
    expect(error.type).toBe('invalid_request_error');
    expect(error.param).toBe(param);
    if (code) expect(error.code).toBe(code);
  });

  test.each([true, false])('more than the context holds (stream: %s)', async streamed => {
    const long = { ...greedy, stream: streamed, messages: [{ role: 'user', content: 'x y z '.repeat(200) }] };
    const error = await failureOf(create(long));
    expect(error).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'messages' });
    expect(error.message).toMatch(
      /maximum context length is 256 tokens\. However, you requested \d+ tokens \(\d+ in the messages, 12 in the completion\)/,
    );
    expect((await failureOf(create({ ...long, max_tokens: null }))).message).toMatch(
      /your messages resulted in \d+ tokens/,
    );
  });
});

describe('404', () => {
  test('a model that is not there', async () => {
    const error = await failureOf(create({ ...greedy, model: 'gpt-none' }));
    expect(error).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' });
    expect(error.message).toContain('The model `gpt-none` does not exist or you do not have access to it.');
  });

  test("another project's model", async () => {
    const request = server.otherClient.chat.completions.create({ ...greedy, model: ADAPTER });
    expect((await failureOf(request)).status).toBe(404);
  });
});
