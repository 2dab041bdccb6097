// Answers that are kept with `store: true`, through the official client.
import type OpenAI from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { BASE, failureOf, PLAIN, useServing } from './serving.ts';

const server = useServing();
const messages = [
  { role: 'system', content: 'Be kind.' },
  { role: 'user', name: 'ada', content: [{ type: 'text', text: 'Hello' }] },
];
const create = (extra: object = {}) =>
  server.client.chat.completions.create({
    model: BASE,
    messages,
    max_tokens: 3,
    temperature: 0,
    ...extra,
  } as never) as unknown as Promise<OpenAI.ChatCompletion>;
const completions = () => server.client.chat.completions;

let first: OpenAI.ChatCompletion;
let second: OpenAI.ChatCompletion;
beforeAll(async () => {
  first = await create({ store: true, metadata: { team: 'a', run: '1' } });
  second = await create({ store: true, metadata: { team: 'b' }, model: PLAIN, seed: 4 });
  await create({ metadata: { team: 'a' } });
});

describe('200', () => {
  test('the answer says its metadata, and is found as it was', async () => {
    expect(first).toMatchObject({ metadata: { team: 'a', run: '1' } });
    const found = await completions().retrieve(first.id);
    expect(found).toMatchObject(first);
    expect(found).toMatchObject({
      temperature: 0,
      tools: null,
      seed: null,
      request_id: expect.stringMatching(/^req_/),
    });
  });

  test('a list, oldest first, of those that were stored', async () => {
    const page = await completions().list();
    expect(page.data.map(({ id }) => id)).toEqual([first.id, second.id]);
    const newest = await completions().list({ order: 'desc', limit: 1 });
    expect(newest.data.map(({ id }) => id)).toEqual([second.id]);
    expect(newest.has_more).toBe(true);
    expect((await newest.getNextPage()).data.map(({ id }) => id)).toEqual([first.id]);
  });

  test('filters', async () => {
    const ids = async (filter: object) => (await completions().list(filter)).data.map(({ id }) => id);
    expect(await ids({ metadata: { team: 'a' } })).toEqual([first.id]);
    expect(await ids({ metadata: { team: 'a', run: '2' } })).toEqual([]);
    expect(await ids({ model: PLAIN })).toEqual([second.id]);
  });

  test('the messages that were answered, in pages', async () => {
    const page = await completions().messages.list(first.id, { limit: 1 });
    expect(page.data).toMatchObject([
      { id: `${first.id}-0`, role: 'system', content: 'Be kind.', content_parts: null },
    ]);
    expect((await page.getNextPage()).data).toMatchObject([
      { role: 'user', name: 'ada', content: null, content_parts: [{ type: 'text', text: 'Hello' }] },
    ]);
    const newest = await completions().messages.list(first.id, { order: 'desc' });
    expect(newest.data.map(({ role }) => role)).toEqual(['user', 'system']);
  });

  test('metadata is replaced', async () => {
    const updated = await completions().update(second.id, { metadata: { team: 'c' } });
    expect(updated).toMatchObject({ id: second.id, metadata: { team: 'c' } });
    expect((await completions().list({ metadata: { team: 'c' } })).data).toHaveLength(1);
  });

  test('a streamed answer is kept before its stream ends', async () => {
    const chunks = (await create({
      store: true,
      stream: true,
      stream_options: { include_usage: true },
    })) as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>;
    let id = '';
    let text = '';
    for await (const chunk of chunks) {
      id = chunk.id;
      text += chunk.choices[0]?.delta.content ?? '';
    }
    const found = await completions().retrieve(id);
    expect(found.choices[0]!.message.content).toBe(text);
    expect(found.usage!.completion_tokens).toBe(3);
  });

  test('a deleted one is gone', async () => {
    const { id } = await create({ store: true });
    expect(await completions().delete(id)).toEqual({ id, object: 'chat.completion.deleted', deleted: true });
    expect(await failureOf(completions().retrieve(id))).toMatchObject({ status: 404 });
  });
});

describe('404', () => {
  test('of another project, or never there', async () => {
    for (const id of [first.id, 'chatcmpl-none']) {
      const { completions: other } = server.otherClient.chat;
      const requests = [
        () => other.retrieve(id),
        () => other.update(id, { metadata: null }),
        () => other.delete(id),
        () => other.messages.list(id),
      ];
      for (const request of requests)
        expect(await failureOf(request())).toMatchObject({ status: 404, param: 'completion_id' });
    }
  });
});

describe('400', () => {
  test('an update without metadata', async () => {
    expect(await failureOf(completions().update(first.id, {} as never))).toMatchObject({
      status: 400,
      param: 'metadata',
    });
  });
});
