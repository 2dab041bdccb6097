// The official Node client, as it is published, through the whole main job: what official.py does in Python, without validation.
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import { waitFor } from '../queue/setting.ts';
import { BASE, useServing } from '../serving/serving.ts';
import { openReceiver, type Receiver } from '../webhooks/receiver.ts';

const server = useServing({ environment: { ANNEAL_THREADS: '1', ANNEAL_WEBHOOK_NETWORKS: '127.0.0.1' } });
let worker: Worker;
let receiver: Receiver;
let client: OpenAI;
/** Requests that are lost before they arrive. */
let losses = 0;

beforeAll(async () => {
  worker = await startWorker(server.deps);
  receiver = await openReceiver();
  client = new OpenAI({
    apiKey: server.key,
    baseURL: `${server.url}/v1`,
    async fetch(input, init) {
      if (losses-- > 0) throw new TypeError('lost');
      return fetch(input, init);
    },
  });
});
afterAll(async () => {
  await worker?.close();
  await receiver?.close();
});

const messages = [{ role: 'user' as const, content: 'What does the cow say?' }];

async function uploadInParts(): Promise<string> {
  const line = `${JSON.stringify({ messages: [...messages, { role: 'assistant', content: 'moo' }] })}\n`;
  const content = Buffer.from(line.repeat(20));
  const { id } = await client.uploads.create({
    filename: 'train.jsonl',
    bytes: content.length,
    mime_type: 'application/jsonl',
    purpose: 'fine-tune',
  });
  const parts = [content.subarray(0, 700), content.subarray(700)].map(bytes =>
    client.uploads.parts.create(id, { data: new File([bytes], 'part') }),
  );
  const part_ids = (await Promise.all(parts)).map(part => part.id);
  const { file } = await client.uploads.complete(id, { part_ids });
  return (await client.files.waitForProcessing(file!.id)).id;
}

async function all<Item>(pages: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of pages) items.push(item);
  return items;
}

test('upload, job, events, checkpoints, answers, stream and webhook', { timeout: 180_000 }, async () => {
  const endpoint = await client.webhooks.create({
    name: 'node',
    url: receiver.url,
    event_types: ['fine_tuning.job.succeeded'],
  });
  const { id } = await client.fineTuning.jobs.create({
    model: BASE,
    training_file: await uploadInParts(),
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 3, batch_size: 5 } } },
  });
  const job = await waitFor('the job to succeed', async () => {
    const found = await client.fineTuning.jobs.retrieve(id);
    if (found.status === 'failed') throw new Error(found.error!.message);
    return found.status === 'succeeded' && found;
  });

  const events = await all(client.fineTuning.jobs.listEvents(id, { limit: 3 }));
  expect(events.length).toBeGreaterThan(12);
  expect(new Set(events.map(event => event.id)).size).toBe(events.length);
  expect(events.at(-1)!.message).toBe(`Created fine-tuning job: ${id}`);
  const checkpoints = await all(client.fineTuning.jobs.checkpoints.list(id, { limit: 1 }));
  expect(checkpoints.map(checkpoint => checkpoint.step_number)).toEqual([12, 8, 4]);
  expect(await (await client.files.content(job.result_files[0]!)).text()).toMatch(/^step,train_loss/);

  const ask = { model: job.fine_tuned_model!, messages, max_tokens: 4, temperature: 0 };
  const whole = await client.chat.completions.create(ask);
  const chunks = await all(await client.chat.completions.create({ ...ask, stream: true }));
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(
    whole.choices[0]!.message.content,
  );

  const [{ body, headers }] = await waitFor(
    'the webhook',
    async () => receiver.received.length > 0 && (receiver.received as [(typeof receiver.received)[0]]),
  );
  const event = await client.webhooks.unwrap(body, headers as never, endpoint.signing_secret);
  expect(event).toMatchObject({ type: 'fine_tuning.job.succeeded', data: { id } });
});

test('requests that are lost are sent again, refusals are not', async () => {
  losses = 2;
  expect((await client.models.list()).data.length).toBeGreaterThan(0);
  losses = 0;
  await expect(client.files.retrieve('file-none')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  expect(losses).toBe(-1);
});
