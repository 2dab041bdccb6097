import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Deps } from '../../src/deps.ts';
import type { GenerationEvent } from '../../src/serving/protocol.ts';
import { announce } from '../../src/store/webhook-deliveries.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';
import { openReceiver, type Receiver } from '../webhooks/receiver.ts';

const server = useServer({ environment: { ANNEAL_WEBHOOK_NETWORKS: '127.0.0.1' } });
const strict = useServer();
let receiver: Receiver;

beforeAll(async () => {
  receiver = await openReceiver();
});
afterAll(() => receiver.close());

const create = (url = 'https://hooks.example.com/anneal', { client } = server) =>
  client.webhooks.create({ name: 'training', url, event_types: ['fine_tuning.job.succeeded'] });

test('is made with a secret that is not shown again', async () => {
  const { signing_secret, ...made } = await create();
  expect(signing_secret).toMatch(/^whsec_/);
  expect(made).toEqual({
    id: expect.stringMatching(/^whe_[A-Za-z0-9]{24}$/),
    object: 'webhook_endpoint',
    name: 'training',
    url: 'https://hooks.example.com/anneal',
    event_types: ['fine_tuning.job.succeeded'],
    created_at: expect.any(Number),
    updated_at: made.created_at,
    signing_secret_hint: `whsec_...${signing_secret.slice(-4)}`,
  });
  expect(await server.client.webhooks.retrieve(made.id)).toEqual(made);
  expect((await server.client.webhooks.list()).data).toContainEqual(made);
});

test('lists in pages, newest first', async () => {
  const made = [await create(), await create(), await create()].map(({ id }) => id).reverse();
  const listed: string[] = [];
  for await (const { id } of server.client.webhooks.list({ limit: 2 })) listed.push(id);
  expect(listed.slice(0, 3)).toEqual(made);
});

test('changes what is given, and the time of its change only then', async () => {
  const { id, updated_at } = await create();
  const age = (seconds: number) =>
    server.database.pool.query(
      `update webhook_endpoints set updated_at = updated_at - make_interval(secs => $2) where id = $1`,
      [id, seconds],
    );
  await age(100);
  const same = await server.client.webhooks.update(id, { name: 'training' });
  expect(same.updated_at).toBe(updated_at! - 100);
  const changed = await server.client.webhooks.update(id, { event_types: ['batch.failed'], name: 'other' });
  expect(changed).toMatchObject({ name: 'other', event_types: ['batch.failed'] });
  expect(changed.updated_at).toBeGreaterThanOrEqual(updated_at!);
});

test('is deleted', async () => {
  const { id } = await create();
  expect(await server.client.webhooks.delete(id)).toEqual({
    id,
    object: 'webhook_endpoint.deleted',
    deleted: true,
  });
  await expect(server.client.webhooks.retrieve(id)).rejects.toMatchObject({ status: 404 });
});

test("another project's is unknown", async () => {
  const { id } = await create();
  const unknown = { status: 404, param: 'webhook_endpoint_id' };
  const { webhooks } = server.otherClient;
  await expect(webhooks.retrieve(id)).rejects.toMatchObject(unknown);
  await expect(webhooks.update(id, { name: 'x' })).rejects.toMatchObject(unknown);
  await expect(webhooks.delete(id)).rejects.toMatchObject(unknown);
  await expect(webhooks.rotateSecret(id)).rejects.toMatchObject(unknown);
  await expect(webhooks.test(id, { event_type: 'batch.failed' })).rejects.toMatchObject(unknown);
  await expect(server.otherClient.get(`/webhook_endpoints/${id}/deliveries`)).rejects.toMatchObject(unknown);
  expect((await webhooks.list()).data).toEqual([]);
});

describe('a wrong URL', () => {
  test.each([
    ['not a URL', 'is not a URL'],
    ['http://hooks.example.com/', 'https://'],
    ['https://169.254.169.254/latest', 'not an address of the internet'],
    ['https://[::1]:8000/', 'not an address of the internet'],
    ['https://user:password@hooks.example.com/', 'password'],
  ])('%s is refused, when it is made and when it is changed', async (url, words) => {
    const wrong = { status: 400, param: 'url', message: expect.stringContaining(words) };
    await expect(create(url, strict)).rejects.toMatchObject(wrong);
    const { id } = await create(undefined, strict);
    await expect(strict.client.webhooks.update(id, { url })).rejects.toMatchObject(wrong);
  });
});

test('a type that is unknown is refused, one that never happens here is not', async () => {
  const make = (event_types: string[]) =>
    server.client.post('/webhook_endpoints', {
      body: { name: 'x', url: 'https://example.com', event_types },
    });
  await expect(make(['batch.exploded'])).rejects.toMatchObject({ status: 400, param: 'event_types[0]' });
  await expect(make([])).rejects.toMatchObject({ status: 400, param: 'event_types' });
  await make(['video.completed']);
  const { data } = await server.client.webhooks.eventTypes.list();
  expect(data).toContain('fine_tuning.job.succeeded');
  expect(data).not.toContain('video.completed');
});

describe('the secret', () => {
  test('is replaced at once, or signs a day longer', async () => {
    const made = await create(receiver.url);
    const sample = async () => {
      await server.client.webhooks.test(made.id, { event_type: 'fine_tuning.job.succeeded' });
      return receiver.received.at(-1)!;
    };
    const opens = async (secret: string) => {
      const { body, headers } = await sample();
      return server.client.webhooks.unwrap(body, headers as never, secret).then(
        () => true,
        () => false,
      );
    };
    const kept = await server.client.webhooks.rotateSecret(made.id, {
      keep_old_secret_active_for_24_hours: true,
    });
    expect(kept.signing_secret).not.toBe(made.signing_secret);
    expect(kept.signing_secret_hint).toBe(`whsec_...${kept.signing_secret.slice(-4)}`);
    expect(await opens(made.signing_secret)).toBe(true);
    expect(await opens(kept.signing_secret)).toBe(true);
    await server.database.pool.query(`update webhook_endpoints set old_secret_until = now()`);
    expect(await opens(made.signing_secret)).toBe(false);
    expect(await opens(kept.signing_secret)).toBe(true);
    const { signing_secret } = await server.client.webhooks.rotateSecret(made.id);
    expect(await opens(kept.signing_secret)).toBe(false);
    expect(await opens(signing_secret)).toBe(true);
  });
});

describe('test', () => {
  test('sends a sample and tells how it was answered, whatever it was', async () => {
    const { id, signing_secret } = await create(receiver.url);
    receiver.answer(response => response.writeHead(418).end());
    expect(await server.client.webhooks.test(id, { event_type: 'batch.completed' })).toEqual({
      object: 'webhook_endpoint.test',
      webhook_endpoint_id: id,
      event_type: 'batch.completed',
      status_code: 418,
      success: true,
    });
    const { body, headers } = receiver.received.at(-1)!;
    const event = await server.client.webhooks.unwrap(body, headers as never, signing_secret);
    expect(event).toMatchObject({ type: 'batch.completed', object: 'event' });
    expect(await server.client.get(`/webhook_endpoints/${id}/deliveries`)).toMatchObject({ data: [] });
  });

  test('says why nobody answered', async () => {
    const { id } = await create('https://127.0.0.1:1/');
    await expect(server.client.webhooks.test(id, { event_type: 'batch.completed' })).rejects.toMatchObject({
      status: 400,
      code: 'webhook_unreachable',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });
});

test('the log has every event with what became of it', async () => {
  const { id } = await create();
  const tell = (job: string) =>
    announce(server.database.pool, {
      projectId: server.projectId,
      type: 'fine_tuning.job.succeeded',
      id: job,
    });
  for (const job of ['ftjob-1', 'ftjob-2', 'ftjob-3']) await tell(job);
  const read = (query: object) =>
    server.client.get(`/webhook_endpoints/${id}/deliveries`, { query }) as Promise<{
      data: { id: string; data: { id: string } }[];
      has_more: boolean;
    }>;
  const first = await read({ limit: 2 });
  expect(first.data.map(({ data }) => data.id)).toEqual(['ftjob-3', 'ftjob-2']);
  expect(first.has_more).toBe(true);
  const rest = await read({ after: first.data[1]!.id });
  expect(rest.data).toEqual([
    {
      id: expect.stringMatching(/^wh_/),
      object: 'webhook_endpoint.delivery',
      webhook_endpoint_id: id,
      event_id: expect.stringMatching(/^evt_/),
      event_type: 'fine_tuning.job.succeeded',
      data: { id: 'ftjob-1' },
      status: 'pending',
      attempts: 0,
      created_at: expect.any(Number),
      delivered_at: null,
      last_attempt_at: null,
      next_attempt_at: expect.any(Number),
      last_status_code: null,
      last_error: null,
    },
  ]);
});

describe('responses in the background', () => {
  const answering = useServer({
    deps: () => ({ generation: { generate, close: async () => undefined } as unknown as Deps['generation'] }),
  });
  let hold = Promise.withResolvers<void>();

  async function* generate(): AsyncGenerator<GenerationEvent, void> {
    yield { type: 'started', promptTokens: 1 };
    await hold.promise;
    yield { type: 'piece', choice: 0, text: 'x', tokens: [] };
    yield { type: 'finished', choice: 0, finishReason: 'stop' };
    yield { type: 'done', promptTokens: 1, completionTokens: 1 };
  }

  const announced = async () =>
    (
      await answering.database.pool.query(
        'select event_type, data from webhook_deliveries order by created_at',
      )
    ).rows;
  const ask = (background: boolean) =>
    answering.client.responses.create({ model: BASE_MODEL, input: 'hello', background });

  test('are announced when they end', async () => {
    await answering.client.webhooks.create({
      name: 'x',
      url: 'https://example.com',
      event_types: ['response.completed', 'response.cancelled'],
    });
    const cancelled = await ask(true);
    await answering.client.responses.cancel(cancelled.id);
    hold.resolve();
    const completed = await ask(true);
    await expect.poll(announced).toHaveLength(2);
    hold = Promise.withResolvers();
    hold.resolve();
    await ask(false);
    expect(await announced()).toEqual([
      { event_type: 'response.cancelled', data: { id: cancelled.id } },
      { event_type: 'response.completed', data: { id: completed.id } },
    ]);
  });
});
