import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pauseSeconds } from '../../src/queue/deliver-webhooks.ts';
import type { Worker } from '../../src/queue/worker.ts';
import { inTransaction } from '../../src/store/database.ts';
import { announce, listWebhookDeliveries, removeOldDeliveries } from '../../src/store/webhook-deliveries.ts';
import { insertWebhookEndpoint, replaceSecret, type WebhookEndpoint } from '../../src/store/webhooks.ts';
import { newSigningSecret } from '../../src/webhooks/signature.ts';
import { useDatabase } from '../support/postgres.ts';
import { openReceiver, type Received, type Receiver } from '../webhooks/receiver.ts';
import { startWorkerProcess } from './processes.ts';
import { openSetting, SCRIPTED_TRAINER, type Setting, scripted, waitFor, waitForStatus } from './setting.ts';

const database = useDatabase();
const NETWORKS = '127.0.0.0/8';
let setting: Setting;
let receiver: Receiver;

beforeAll(async () => {
  const config = { ANNEAL_WEBHOOK_NETWORKS: NETWORKS };
  setting = await openSetting({ databaseUrl: database.url, config });
});
afterAll(() => setting.close());

beforeEach(async () => {
  await database.pool.query('delete from webhook_endpoints');
  receiver = await openReceiver();
  return () => receiver.close();
});

const JOB_EVENTS = [
  'fine_tuning.job.succeeded',
  'fine_tuning.job.failed',
  'fine_tuning.job.cancelled',
] as const;

const endpoint = (url = receiver.url, eventTypes: readonly string[] = JOB_EVENTS) =>
  insertWebhookEndpoint(database.pool, {
    projectId: setting.projectId,
    name: 'test',
    url,
    eventTypes: [...eventTypes],
    secret: newSigningSecret(),
  });

const tell = (id: string, type: (typeof JOB_EVENTS)[number] = 'fine_tuning.job.succeeded') =>
  announce(database.pool, { projectId: setting.projectId, type, id });

const log = async ({ id }: WebhookEndpoint) =>
  (await listWebhookDeliveries(database.pool, id, { limit: 100 })).rows;

async function withWorker<T>(work: (worker: Worker) => Promise<T>): Promise<T> {
  const worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER });
  try {
    return await work(worker);
  } finally {
    await worker.close();
  }
}

/** Instead of waiting for the pause before the next attempt. */
const becomeDue = () =>
  database.pool.query(`update webhook_deliveries set next_attempt_at = now() where status = 'pending'`);

const unwrap = ({ body, headers }: Received, secret: string) =>
  new OpenAI({ apiKey: 'none' }).webhooks.unwrap(body, headers as never, secret);

describe("a job's end is sent", () => {
  test('success, failure and cancelling, each once and signed', async () => {
    const { secrets } = await endpoint();
    const good = await setting.createJob({ trainingFile: await setting.putFile(scripted({})) });
    const bad = await setting.createJob({ trainingFile: await setting.putFile(['{']) });
    const cancelled = await setting.createJob({ trainingFile: await setting.putFile(scripted({})) });
    await setting.change(cancelled, 'cancel');
    await withWorker(async () => {
      await waitForStatus(database.pool, good, 'succeeded');
      await waitForStatus(database.pool, bad, 'failed');
      await waitFor('three events', async () => receiver.received.length >= 3);
    });
    const events = await Promise.all(receiver.received.map(one => unwrap(one, secrets[0]!)));
    expect(new Map(events.map(event => [(event as { data: { id: string } }).data.id, event.type]))).toEqual(
      new Map([
        [good, 'fine_tuning.job.succeeded'],
        [bad, 'fine_tuning.job.failed'],
        [cancelled, 'fine_tuning.job.cancelled'],
      ]),
    );
    expect(events).toHaveLength(3);
    expect(events[0]).toMatchObject({ object: 'event', id: expect.stringMatching(/^evt_/) });
  });

  test('to the endpoints of its project that ask for it, with the same event', async () => {
    const [one, other] = [await endpoint(), await endpoint(`${receiver.url}/2`)];
    const deaf = await endpoint(`${receiver.url}/3`, ['fine_tuning.job.failed']);
    await tell('ftjob-1');
    await withWorker(() => waitFor('two', async () => receiver.received.length >= 2));
    const [first, second] = [(await log(one))[0]!, (await log(other))[0]!];
    expect(first).toMatchObject({
      status: 'delivered',
      attempts: 1,
      lastStatusCode: 200,
      nextAttemptAt: null,
    });
    expect(second.eventId).toBe(first.eventId);
    expect(second.id).not.toBe(first.id);
    expect(await log(deaf)).toEqual([]);
  });

  test('is not, when the transaction that makes it is rolled back', async () => {
    const { id } = await endpoint();
    const failing = inTransaction(database.pool, async tx => {
      await announce(tx, { projectId: setting.projectId, type: 'fine_tuning.job.failed', id: 'x' });
      throw new Error('rolled back');
    });
    await expect(failing).rejects.toThrow('rolled back');
    expect((await listWebhookDeliveries(database.pool, id, { limit: 1 })).rows).toEqual([]);
  });
});

describe('a receiver that does not take it', () => {
  test.each([
    ['is down', (down: Receiver) => down.close(), null, /ECONNREFUSED/],
    ['answers 500', (one: Receiver) => one.answer(response => response.writeHead(500).end()), 500, null],
    ['redirects', (one: Receiver) => one.answer(response => response.writeHead(307).end()), 307, null],
  ])('because it %s is sent the same again', async (_, break_, statusCode, error) => {
    const made = await endpoint();
    await break_(receiver);
    await tell('ftjob-2');
    await withWorker(async () => {
      const failed = await waitFor('an attempt', async () =>
        (await log(made)).find(
          one => one.nextAttemptAt && (one.lastStatusCode !== null || one.lastError !== null),
        ),
      );
      expect(failed).toMatchObject({ status: 'pending', attempts: 1, lastStatusCode: statusCode });
      if (error) expect(failed.lastError).toMatch(error);
      const pause = failed.nextAttemptAt!.getTime() - failed.lastAttemptAt!.getTime();
      expect(pause).toBeGreaterThanOrEqual(5000);
      expect(pause).toBeLessThan(9000);

      const back = error ? await openReceiver(receiver.port) : receiver;
      back.answer(response => response.writeHead(200).end());
      await becomeDue();
      await waitFor('the delivery', async () => (await log(made))[0]!.status === 'delivered');
      expect(await log(made)).toMatchObject([{ attempts: 2, lastStatusCode: 200, lastError: null }]);
      expect(new Set([...receiver.received, ...back.received].map(one => one.headers['webhook-id']))).toEqual(
        new Set([failed.id]),
      );
      if (error) await back.close();
    });
  });

  test('for 72 hours is given up', async () => {
    const made = await endpoint();
    receiver.answer(response => response.writeHead(503).end());
    await tell('ftjob-3');
    await database.pool.query(`update webhook_deliveries set created_at = now() - interval '72 hours'`);
    await withWorker(() => waitFor('giving up', async () => (await log(made))[0]!.status === 'failed'));
    expect(await log(made)).toMatchObject([{ attempts: 1, lastStatusCode: 503, nextAttemptAt: null }]);
  });

  test('is on an address that is not allowed: nothing is sent', async () => {
    const made = await endpoint(receiver.url.replace('127.0.0.1', '[::1]'));
    await tell('ftjob-4');
    await withWorker(() => waitFor('the refusal', async () => (await log(made))[0]!.lastError));
    expect((await log(made))[0]).toMatchObject({
      status: 'pending',
      lastError: expect.stringContaining('ANNEAL_WEBHOOK_NETWORKS'),
    });
    expect(receiver.received).toEqual([]);
  });

  test('does not hold up the others', async () => {
    receiver.answer((response, { path }) => void (path === '/hook' || response.writeHead(200).end()));
    await endpoint();
    const quick = await endpoint(`${receiver.url}/quick`);
    for (let index = 0; index < 3; index++) await tell(`ftjob-${index}`);
    await withWorker(() =>
      waitFor('the quick one', async () => (await log(quick)).every(one => one.status === 'delivered'), 5000),
    );
  });
});

test('a worker that is killed while it sends leaves it to the next', { timeout: 60_000 }, async () => {
  const made = await endpoint();
  receiver.answer(() => undefined);
  await tell('ftjob-5');
  const environment = {
    DATABASE_URL: database.url,
    ANNEAL_DATA_DIR: setting.config.dataDirectory,
    ANNEAL_WEBHOOK_NETWORKS: NETWORKS,
    TEST_TRAINER: SCRIPTED_TRAINER,
  };
  const worker = await startWorkerProcess(environment);
  await waitFor('the sending', async () => receiver.received.length === 1);
  await worker.end('SIGKILL');
  expect(await log(made)).toMatchObject([{ status: 'pending', attempts: 1 }]);
  receiver.answer(response => response.writeHead(200).end());
  await becomeDue(); // after half a minute by itself
  await withWorker(() => waitFor('the delivery', async () => (await log(made))[0]!.status === 'delivered'));
  expect(receiver.received.map(one => one.headers['webhook-id'])).toEqual(
    Array(2).fill((await log(made))[0]!.id),
  );
});

test('a worker that is stopped while it sends lets go at once', async () => {
  const made = await endpoint();
  receiver.answer(() => undefined);
  await tell('ftjob-6');
  await withWorker(() => waitFor('the sending', async () => receiver.received.length === 1));
  expect(await log(made)).toMatchObject([
    { status: 'pending', lastError: expect.stringContaining('stopped') },
  ]);
});

test('after a rotation both secrets sign for as long as was asked', async () => {
  const made = await endpoint();
  const [old] = made.secrets;
  const replacement = { projectId: setting.projectId, id: made.id, secret: newSigningSecret() };
  const rotate = (keepSeconds: number) => replaceSecret(database.pool, { ...replacement, keepSeconds });
  const { secrets } = (await rotate(3600))!;
  expect(secrets).toEqual([replacement.secret, old]);
  await tell('ftjob-7');
  await withWorker(() => waitFor('it', async () => receiver.received.length === 1));
  for (const secret of secrets) await unwrap(receiver.received[0]!, secret);
  expect((await rotate(0))!.secrets).toEqual([replacement.secret]);
});

test('pauses double from five seconds to four hours', () => {
  const pauses = Array.from({ length: 30 }, (_, index) => pauseSeconds(index + 1, 0));
  expect(pauses.slice(0, 4)).toEqual([5, 10, 20, 40]);
  expect(pauses.at(-1)).toBe(14_400);
  expect(pauseSeconds(1, 1)).toBe(6);
});

test('what is over is forgotten after a month, what is not is kept', async () => {
  const made = await endpoint();
  await tell('ftjob-8');
  await tell('ftjob-9');
  await database.pool.query(
    `update webhook_deliveries set created_at = now() - interval '31 days',
       status = case data->>'id' when 'ftjob-8' then 'delivered' else 'pending' end`,
  );
  expect(await removeOldDeliveries(database.pool, 30)).toBe(1);
  expect(await log(made)).toMatchObject([{ data: { id: 'ftjob-9' } }]);
});
