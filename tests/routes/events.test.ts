import { get, type IncomingMessage } from 'node:http';
import { toFile } from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { appendEvents } from '../../src/store/events.ts';
import { BASE_MODEL, startServer, type TestServer, useServer } from '../support/server.ts';

const server = useServer();
let trainingFile: string;

beforeAll(async () => {
  trainingFile = await upload(server);
});

async function upload({ client }: TestServer): Promise<string> {
  return (
    await client.files.create({ file: await toFile(Buffer.from('{}'), 'a.jsonl'), purpose: 'fine-tune' })
  ).id;
}

const newJob = async (on = server, file = trainingFile): Promise<string> =>
  (await on.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: file })).id;

const say = (jobId: string, ...messages: string[]) =>
  appendEvents(
    server.database.pool,
    jobId,
    messages.map(message => ({ message })),
  );

interface Stream {
  response: IncomingMessage;
  /** Everything so far. */
  text: string;
  ended: boolean;
  messages(): string[];
}

function follow(on: TestServer, jobId: string, { query = '', lastEventId = '' } = {}): Promise<Stream> {
  const headers = { authorization: `Bearer ${on.key}`, ...(lastEventId && { 'last-event-id': lastEventId }) };
  return new Promise((done, fail) => {
    get(`${on.url}/v1/fine_tuning/jobs/${jobId}/events?stream=true${query}`, { headers }, response => {
      const stream: Stream = {
        response,
        text: '',
        ended: false,
        messages: () =>
          [...stream.text.matchAll(/^data: (\{.*\})$/gm)].map(match => JSON.parse(match[1]!).message),
      };
      response.setEncoding('utf8');
      response.on('data', chunk => {
        stream.text += chunk;
      });
      response.on('end', () => {
        stream.ended = true;
      });
      response.on('error', () => undefined);
      done(stream);
    }).on('error', fail);
  });
}

describe('pages', () => {
  test('newest first; the client iterates over all', async () => {
    const jobId = await newJob();
    await say(jobId, ...Array.from({ length: 7 }, (_, i) => `event ${i}`));
    const seen: string[] = [];
    for await (const event of server.client.fineTuning.jobs.listEvents(jobId, { limit: 4 }))
      seen.push(event.message);
    expect(seen.slice(0, 7)).toEqual([
      'event 6',
      'event 5',
      'event 4',
      'event 3',
      'event 2',
      'event 1',
      'event 0',
    ]);
    expect(seen).toHaveLength(9);
  });

  test('carry the numbers of a step', async () => {
    const jobId = await newJob();
    const data = { step: 1, total_steps: 9, train_loss: 1.5, train_mean_token_accuracy: 0.25 };
    await appendEvents(server.database.pool, jobId, [
      { message: 'Step 1/9: training loss=1.50', type: 'metrics', data },
    ]);
    const { data: events } = await server.client.fineTuning.jobs.listEvents(jobId, { limit: 1 });
    expect(events[0]).toEqual({
      object: 'fine_tuning.job.event',
      id: expect.stringMatching(/^ftevent-/),
      created_at: expect.any(Number),
      level: 'info',
      message: 'Step 1/9: training loss=1.50',
      type: 'metrics',
      data,
    });
  });
});

describe('stream', () => {
  test('gives what was, then what comes, and ends with the job', async () => {
    const jobId = await newJob();
    const stream = await follow(server, jobId);
    expect(stream.response.headers['content-type']).toBe('text/event-stream');
    await expect.poll(stream.messages).toHaveLength(2);
    const before = Date.now();
    await say(jobId, 'live');
    await expect.poll(stream.messages, { interval: 5 }).toHaveLength(3);
    expect(Date.now() - before).toBeLessThan(1000);
    expect(stream.ended).toBe(false);
    await server.client.fineTuning.jobs.cancel(jobId);
    await expect.poll(() => stream.ended).toBe(true);
    expect(stream.messages().slice(2)).toEqual(['live', 'The job has been cancelled']);
    expect(stream.text).toMatch(/\n\ndata: \[DONE\]\n\n$/);
  });

  test('goes on after the last event that the client saw', async () => {
    const jobId = await newJob();
    await say(jobId, 'a', 'b');
    await server.client.fineTuning.jobs.cancel(jobId);
    const { data } = await server.client.fineTuning.jobs.listEvents(jobId);
    const [first, seen] = [data.at(-1)!.id, data.find(event => event.message === 'a')!.id];
    for (const options of [
      { lastEventId: seen },
      { query: `&after=${seen}` },
      { query: `&after=${first}`, lastEventId: seen }, // began after the first, was cut off, and asks the same address again
    ]) {
      const stream = await follow(server, jobId, options);
      await expect.poll(() => stream.ended).toBe(true);
      expect(stream.messages()).toEqual(['b', 'The job has been cancelled']);
    }
  });

  test('of many readers each sees every event once, in order, also when they come fast', async () => {
    const jobId = await newJob();
    const streams = await Promise.all(Array.from({ length: 10 }, () => follow(server, jobId)));
    const messages = Array.from({ length: 300 }, (_, i) => `fast ${i}`);
    for (let i = 0; i < 300; i += 20) await say(jobId, ...messages.slice(i, i + 20));
    await server.client.fineTuning.jobs.cancel(jobId);
    for (const stream of streams) {
      await expect.poll(() => stream.ended, { timeout: 10_000 }).toBe(true);
      expect(stream.messages().slice(2, -1)).toEqual(messages);
    }
  });

  test('lives on when the listening session is cut', async () => {
    const jobId = await newJob();
    const stream = await follow(server, jobId);
    await expect.poll(stream.messages).toHaveLength(2);
    await server.database.pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'anneal listen%' and datname = current_database()`,
    );
    await say(jobId, 'after the cut');
    await expect.poll(stream.messages, { timeout: 5000 }).toContain('after the cut');
    stream.response.destroy();
  });

  test('leaves nothing behind when the client goes', async () => {
    const jobId = await newJob();
    const stream = await follow(server, jobId);
    await expect.poll(stream.messages).toHaveLength(2);
    stream.response.destroy();
    await new Promise(done => setTimeout(done, 100));
    expect(server.database.pool.idleCount).toBe(server.database.pool.totalCount);
  });

  test('ends when the service stops', async () => {
    const own = await startServer();
    const jobId = await newJob(own, await upload(own));
    const stream = await follow(own, jobId);
    await expect.poll(stream.messages).toHaveLength(2);
    const before = Date.now();
    await own.close();
    expect(Date.now() - before).toBeLessThan(3000);
    expect(stream.text).not.toContain('[DONE]');
  });
});
