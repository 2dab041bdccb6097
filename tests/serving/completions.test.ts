// POST /v1/completions through the official client: prompts in every form, echo with log-probabilities, streams.
import type OpenAI from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';
import { ADAPTER, BASE, failureOf, golden, PLAIN, useServing } from './serving.ts';

const server = useServing();
const greedy = { model: BASE, temperature: 0, max_tokens: 8 };
const prompt = 'The quick brown fox';
const LONG = new Array<number>(300).fill(20);
let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(golden(BASE));
});

const create = (body: object) =>
  server.client.completions.create(body as never) as unknown as Promise<OpenAI.Completion>;

async function collect(body: object): Promise<OpenAI.Completion[]> {
  const chunks = [];
  const stream = await server.client.completions.create({ ...body, stream: true } as never);
  for await (const chunk of stream as unknown as AsyncIterable<OpenAI.Completion>) chunks.push(chunk);
  return chunks;
}

describe('200', () => {
  test("an answer in OpenAI's form", async () => {
    const completion = await create({ ...greedy, prompt });
    expect(completion).toMatchObject({ object: 'text_completion', model: BASE });
    expect(completion.id).toMatch(/^cmpl-/);
    expect(completion.choices).toEqual([
      { index: 0, text: expect.any(String), logprobs: null, finish_reason: 'length' },
    ]);
    const promptTokens = tokenizer.encodePrompt(prompt).length;
    expect(completion.usage).toMatchObject({
      prompt_tokens: promptTokens,
      completion_tokens: 8,
      total_tokens: promptTokens + 8,
    });
  });

  test('16 tokens where the request does not say', async () => {
    expect((await create({ model: BASE, temperature: 0, prompt })).usage!.completion_tokens).toBe(16);
  });

  test('a text, its tokens, and several of both give the same', async () => {
    const other = 'positive';
    const tokens = [prompt, other].map(text => tokenizer.encodePrompt(text));
    const [first, second] = [await create({ ...greedy, prompt }), await create({ ...greedy, prompt: other })];
    const expected = [first.choices[0]!.text, second.choices[0]!.text];
    const texts = async (value: unknown) => {
      const { choices } = await create({ ...greedy, prompt: value });
      expect(choices.map(({ index }) => index)).toEqual(choices.map((_, i) => i));
      return choices.map(({ text }) => text);
    };
    expect(await texts(tokens[0])).toEqual([expected[0]]);
    expect(await texts([prompt, other])).toEqual(expected);
    expect(await texts(tokens)).toEqual(expected);
    const both = await create({ ...greedy, prompt: [prompt, other] });
    expect(both.usage!.prompt_tokens).toBe(first.usage!.prompt_tokens + second.usage!.prompt_tokens);
    expect(both.usage!.completion_tokens).toBe(16);
  });

  test('no prompt is the beginning of a document', async () => {
    for (const model of [BASE, PLAIN]) {
      const started = await create({ ...greedy, model });
      expect(started.usage!.prompt_tokens).toBe(1);
      expect((await create({ ...greedy, model, prompt: null })).choices).toEqual(started.choices);
    }
  });

  test('choices of several prompts and n follow each other', async () => {
    const body = { ...greedy, temperature: 1, seed: 5, n: 2 };
    const { choices } = await create({ ...body, prompt: [prompt, 'rain'] });
    const [first, second] = [await create({ ...body, prompt }), await create({ ...body, prompt: 'rain' })];
    expect(choices.map(({ text }) => text)).toEqual(
      [...first.choices, ...second.choices].map(({ text }) => text),
    );
  });

  test('best_of returns the choices with the highest log-probability per token', async () => {
    const body = { ...greedy, prompt, temperature: 1.3, seed: 3, logprobs: 0 };
    const all = await create({ ...body, n: 5 });
    const mean = (choice: OpenAI.CompletionChoice) => {
      const values = choice.logprobs!.token_logprobs!;
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    const ranked = all.choices.toSorted((a, b) => mean(b) - mean(a)).map(({ text }) => text);
    const best = await create({ ...body, n: 2, best_of: 5 });
    expect(best.choices.map(({ text }) => text)).toEqual(ranked.slice(0, 2));
    expect(best.choices.map(({ index }) => index)).toEqual([0, 1]);
    expect(best.usage!.completion_tokens).toBe(40);
  });
});

describe('echo', () => {
  test("with max_tokens 0 and logprobs gives the prompt's own log-probabilities", async () => {
    const { choices, usage } = await create({ ...greedy, prompt, max_tokens: 0, echo: true, logprobs: 2 });
    const [choice] = choices;
    expect(choice).toMatchObject({ text: prompt, finish_reason: 'length' });
    const ids = tokenizer.encodePrompt(prompt);
    const { tokens, token_logprobs, top_logprobs, text_offset } = choice!.logprobs!;
    expect(tokens).toEqual(ids.map(id => tokenizer.decode([id], { special: true })));
    expect(token_logprobs![0]).toBeNull();
    expect(top_logprobs![0]).toBeNull();
    for (let i = 1; i < ids.length; i++) {
      expect(token_logprobs![i]).toBeLessThan(0);
      const alternatives = top_logprobs![i]!;
      expect(alternatives[tokens![i]!]).toBe(token_logprobs![i]);
      expect([2, 3]).toContain(Object.keys(alternatives).length);
    }
    // The BOS that the tokenizer has put before the text takes no room in it.
    expect(text_offset!.slice(0, 2)).toEqual([0, 0]);
    tokens!.slice(1).forEach((token, i) => {
      expect(prompt.slice(text_offset![i + 1]!).startsWith(token)).toBe(true);
    });
    expect(usage).toMatchObject({ prompt_tokens: ids.length, completion_tokens: 0 });
  });

  test('log-probabilities of an answer are those of reading prompt and answer together', async () => {
    for (const model of [BASE, ADAPTER]) {
      const body = { ...greedy, model, prompt, logprobs: 1, echo: true };
      const answered = await create(body);
      expect(answered.choices[0]!.text.startsWith(prompt)).toBe(true);
      const generated = answered.choices[0]!.logprobs!;
      const whole = [
        ...tokenizer.encodePrompt(prompt),
        ...(await generatedIds({ ...greedy, model, prompt })),
      ];
      const read = (await create({ ...body, prompt: whole, max_tokens: 0 })).choices[0]!.logprobs!;
      expect(generated.tokens).toEqual(read.tokens);
      generated.token_logprobs!.slice(1).forEach((value, i) => {
        expect(value).toBeCloseTo(read.token_logprobs![i + 1]!, 4);
      });
      expect(generated.text_offset).toEqual(read.text_offset);
    }
  });

  test('in a stream comes first', async () => {
    const whole = (await create({ ...greedy, prompt, echo: true })).choices[0]!.text;
    const chunks = await collect({ ...greedy, prompt, echo: true });
    expect(chunks[0]!.choices[0]!.text).toBe(prompt);
    expect(chunks.map(chunk => chunk.choices[0]!.text).join('')).toBe(whole);
  });

  /** Ids of what is generated, one by one: forced by bias, so that they are known. */
  async function generatedIds(body: {
    model: string;
    prompt: string;
    max_tokens: number;
  }): Promise<number[]> {
    const ids = tokenizer.encodePrompt(body.prompt);
    const start = ids.length;
    for (let i = 0; i < body.max_tokens; i++) {
      const { choices } = await create({ ...body, prompt: ids, max_tokens: 1, logprobs: 0 });
      const [name] = choices[0]!.logprobs!.tokens!;
      ids.push(idOf(name!));
    }
    return ids.slice(start);
  }

  function idOf(name: string): number {
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      const bytes = Buffer.from(tokenizer.tokenBytes(id));
      const escaped = `bytes:${Array.from(bytes, byte => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
      if (bytes.toString('utf8') === name || escaped === name) return id;
    }
    throw new Error(`no token is called ${name}`);
  }
});

describe('streams', () => {
  test('of several prompts: each choice whole, its end last, the usage at the end', async () => {
    const body = { ...greedy, prompt: [prompt, 'rain', 'north'] };
    const expected = await create(body);
    const chunks = await collect({ ...body, stream_options: { include_usage: true } });
    const usage = chunks.pop()!;
    expect(usage.choices).toEqual([]);
    expect(usage.usage).toEqual(expected.usage);
    for (const { index, text, finish_reason } of expected.choices) {
      const own = chunks.flatMap(chunk => chunk.choices).filter(choice => choice.index === index);
      expect(own.map(choice => choice.text).join('')).toBe(text);
      expect(own.map(choice => choice.finish_reason).filter(Boolean)).toEqual([finish_reason]);
      expect(own.at(-1)!.finish_reason).toBe(finish_reason);
    }
  });

  test('logprobs come with their text', async () => {
    const body = { ...greedy, prompt, logprobs: 1 };
    const expected = (await create(body)).choices[0]!.logprobs!;
    const chunks = (await collect(body)).flatMap(chunk => chunk.choices[0]!.logprobs ?? []);
    expect(chunks.flatMap(each => each.tokens)).toEqual(expected.tokens);
    expect(chunks.flatMap(each => each.text_offset)).toEqual(expected.text_offset);
  });
});

describe('400', () => {
  test.each([
    ['max_tokens', { max_tokens: -1 }, 'integer_below_min_value'],
    ['logprobs', { logprobs: 6 }, 'integer_above_max_value'],
    ['best_of', { n: 3, best_of: 2 }, 'invalid_value'],
    ['best_of', { best_of: 2, stream: true }, 'invalid_value'],
    ['suffix', { suffix: 'end' }, 'unsupported_parameter'],
    ['prompt', { prompt: [[5, 100_000]] }, 'invalid_value'],
    ['prompt', { prompt: LONG }, 'context_length_exceeded'],
    ['prompt', { prompt: { text: 'x' } }, null],
    ['stop', { stop: ['a', 'b', 'c', 'd', 'e'] }, 'array_above_max_length'],
  ])('%s, case %#', async (param, change, code) => {
    const error = await failureOf(create({ ...greedy, prompt, ...change }));
    expect(error.status).toBe(400);
    expect(error.param).toBe(param);
    if (code) expect(error.code).toBe(code);
  });

  test('one wrong prompt among several fails the request, streaming or not', async () => {
    const body = { ...greedy, prompt: [[20, 21], LONG] };
    expect((await failureOf(create(body))).code).toBe('context_length_exceeded');
    expect((await failureOf(collect(body))).code).toBe('context_length_exceeded');
  });
});
