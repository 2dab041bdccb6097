// Encoder-decoders and beam search through the official client: the texts of transformers' generate, and what does not go together.
import { readFileSync } from 'node:fs';
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { ANSWERER, BASE, golden, TRANSLATOR, useServing } from './serving.ts';

const server = useServing();

interface Found {
  model: string;
  prompt: string;
  search: { num_beams: number; length_penalty?: number; early_stopping?: boolean | 'never' };
  max_tokens: number;
  /** Best first, up to and with the end. */
  answers: number[][];
  texts: string[];
}

const found: Found[] = JSON.parse(readFileSync(golden('beams.json'), 'utf8'));
const prompt = 'The quick brown fox';
const greedy = { model: ANSWERER, temperature: 0, max_tokens: 10 };

const create = (body: object) =>
  server.client.completions.create(body as never) as unknown as Promise<OpenAI.Completion>;
const chat = (body: object) =>
  server.client.chat.completions.create(body as never) as unknown as Promise<OpenAI.ChatCompletion>;

async function failure(request: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await request;
  } catch (error) {
    if (error instanceof OpenAI.APIError) return error;
    throw error;
  }
  throw new Error('the request was answered');
}

test.each(found)('$model on "$prompt" under $search says what transformers says', async asked => {
  const { model, search, max_tokens, answers, texts } = asked;
  const { num_beams: n } = search;
  const completion = await create({ model, prompt: asked.prompt, max_tokens, temperature: 0, n, ...search });
  const readable = texts.map(text => !text.includes('\uFFFD'));
  // Marian's tokenizer in Python takes spaces away at the end.
  const said = completion.choices.map(({ text }) => (model === TRANSLATOR ? text.trimEnd() : text));
  expect(said.filter((_, i) => readable[i])).toEqual(texts.filter((_, i) => readable[i]));
  const ends = answers.map(answer => (answer.length < max_tokens ? 'stop' : 'length'));
  expect(completion.choices.map(choice => choice.finish_reason)).toEqual(ends);
  expect(completion.usage!.completion_tokens).toBe(answers.reduce((sum, { length }) => sum + length, 0));
});

describe('an encoder-decoder', () => {
  test('counts its source with the end that the tokenizer puts after it', async () => {
    const tokenizer = await loadTokenizer(golden(ANSWERER));
    const completion = await create({ ...greedy, prompt });
    expect(completion.usage!.prompt_tokens).toBe(tokenizer.encodeWhole(prompt).length);
    expect((await create({ ...greedy, prompt: tokenizer.encodeWhole(prompt) })).choices).toEqual(
      completion.choices,
    );
  });

  test('answers chats: what is asked is the source', async () => {
    const asked = await chat({ ...greedy, messages: [{ role: 'user', content: prompt }] });
    const completion = await create({ ...greedy, prompt });
    expect(asked.choices[0]!.message.content).toBe(completion.choices[0]!.text);
    expect(asked.usage).toEqual(completion.usage);
    const [best] = found.filter(({ model, search }) => model === ANSWERER && search.num_beams === 3);
    const searched = await chat({
      model: ANSWERER,
      max_tokens: 10,
      num_beams: 3,
      messages: [{ role: 'user', content: prompt }],
    });
    expect(searched.choices[0]!.message.content).toBe(best!.texts[0]);
  });

  test('streams what it says at once', async () => {
    const whole = await create({ ...greedy, prompt });
    const stream = await server.client.completions.create({ ...greedy, prompt, stream: true });
    let text = '';
    for await (const { choices } of stream) text += choices[0]?.text ?? '';
    expect(text).toBe(whole.choices[0]!.text);
  });

  test('draws by seed, stops at texts, and gives log-probabilities', async () => {
    const draw = { ...greedy, temperature: 1, prompt };
    const [first, again, other] = [
      await create({ ...draw, seed: 1 }),
      await create({ ...draw, seed: 1 }),
      await create({ ...draw, seed: 2 }),
    ];
    expect(again.choices).toEqual(first.choices);
    expect(other.choices).not.toEqual(first.choices);
    const { text } = (await create({ ...greedy, prompt })).choices[0]!;
    const stopped = (await create({ ...greedy, prompt, stop: text.slice(4, 7) })).choices[0]!;
    expect(stopped).toMatchObject({ text: text.slice(0, 4), finish_reason: 'stop' });
    const { logprobs } = (await create({ ...greedy, prompt, logprobs: 2 })).choices[0]!;
    expect(logprobs!.tokens).toHaveLength(10);
    for (const logprob of logprobs!.token_logprobs!) expect(logprob).toBeLessThan(0);
  });

  test('gives the prompt back, but not how probable it is', async () => {
    const echoed = (await create({ ...greedy, prompt, echo: true })).choices[0]!.text;
    expect(echoed).toBe(prompt + (await create({ ...greedy, prompt })).choices[0]!.text);
    const error = await failure(create({ ...greedy, prompt, echo: true, logprobs: 1, max_tokens: 0 }));
    expect(error).toMatchObject({ status: 400, code: 'unsupported_parameter', param: 'echo' });
  });

  test('takes a source and an answer as long as its positions, each', async () => {
    const tokens = new Array<number>(4097).fill(20);
    const error = await failure(create({ ...greedy, prompt: tokens }));
    expect(error).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'prompt' });
    expect(error.message).toContain('4096 tokens, for the prompt and for the completion each');
    expect((await create({ ...greedy, max_tokens: 4095, prompt, stop: 'o' })).choices[0]!.text).toBe('w');
  });
});

describe('beams', () => {
  const searched = { model: BASE, prompt, max_tokens: 10, num_beams: 3 };

  test('give the best answer alone where no more are asked for', async () => {
    const asked = found.find(({ model, search }) => model === BASE && search.num_beams === 3)!;
    const { choices } = await create(searched);
    expect(choices.map(({ text }) => text)).toEqual(asked.texts.slice(0, 1));
  });

  test('give the log-probabilities of their tokens', async () => {
    const { logprobs } = (await create({ ...searched, logprobs: 3 })).choices[0]!;
    const text = (await create({ ...searched, num_beams: 1, temperature: 0, logprobs: 3 })).choices[0]!;
    // Here the best of the beams is also the greedy answer.
    expect(logprobs!.tokens).toEqual(text.logprobs!.tokens);
    logprobs!.token_logprobs!.forEach((logprob, i) => {
      expect(logprob).toBeCloseTo(text.logprobs!.token_logprobs![i]!, 4);
    });
    expect(Object.keys(logprobs!.top_logprobs![0]!).length).toBeGreaterThanOrEqual(3);
  });

  test('end at stop texts', async () => {
    const { text, finish_reason } = (await create({ ...searched, stop: 'mpmpmp' })).choices[0]!;
    expect([text, finish_reason]).toEqual(['', 'stop']);
  });

  test.each([
    [{ stream: true }, 'stream'],
    [{ temperature: 0.7 }, 'temperature'],
    [{ top_p: 0.5 }, 'top_p'],
    [{ presence_penalty: 1 }, 'presence_penalty'],
    [{ logit_bias: { 5: 1 } }, 'logit_bias'],
    [{ best_of: 2 }, 'best_of'],
  ])('do not go with %j', async (more, param) => {
    const error = await failure(create({ ...searched, ...more }));
    expect(error).toMatchObject({ status: 400, code: 'unsupported_parameter', param });
    expect(error.message).toContain("'num_beams' above 1");
  });

  test.each([
    [{ n: 4 }, 'n', "'n' must be at most 'num_beams' (3), but got 4."],
    [{ num_beams: 17 }, 'num_beams', '16'],
    [{ num_beams: 1, length_penalty: 2 }, 'length_penalty', "'num_beams' 1"],
    [{ early_stopping: 'now' }, 'early_stopping', 'early_stopping'],
  ])('refuse %j', async (more, param, message) => {
    const error = await failure(create({ ...searched, ...more }));
    expect(error).toMatchObject({ status: 400, param });
    expect(error.message).toContain(message);
  });
});
