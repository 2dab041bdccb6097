import { createServer } from 'node:net';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkUrl, type Network } from '../../src/webhooks/addresses.ts';
import { sendWebhook } from '../../src/webhooks/send.ts';
import { newSigningSecret } from '../../src/webhooks/signature.ts';
import { openReceiver, type Receiver } from './receiver.ts';

const LOOPBACK: Network[] = [{ address: '127.0.0.0', prefix: 8, family: 'ipv4' }];
const secret = newSigningSecret();
const event = {
  id: 'evt_1',
  type: 'fine_tuning.job.succeeded',
  createdAt: new Date(1_780_000_000_500),
  data: { id: 'ftjob-ä' },
};
let receiver: Receiver;

beforeAll(async () => {
  receiver = await openReceiver();
});
afterAll(() => receiver.close());

const send = (url: string, allowed = LOOPBACK, timeoutMs?: number) =>
  sendWebhook({ id: 'wh_1', url, secrets: [secret], event }, { allowed, timeoutMs });

test('an event is sent as clients unwrap it', async () => {
  expect(await send(receiver.url)).toEqual({ statusCode: 200, error: null });
  const { body, headers, path } = receiver.received.at(-1)!;
  expect(path).toBe('/hook');
  expect(headers).toMatchObject({ 'content-type': 'application/json', 'webhook-id': 'wh_1' });
  const unwrapped = await new OpenAI({ apiKey: 'none' }).webhooks.unwrap(body, headers as never, secret);
  expect(unwrapped).toEqual({
    id: 'evt_1',
    object: 'event',
    created_at: 1_780_000_000,
    type: 'fine_tuning.job.succeeded',
    data: { id: 'ftjob-ä' },
  });
});

describe('what the receiver does', () => {
  test('its status is the answer, a redirect too: it is not followed', async () => {
    const before = receiver.received.length;
    receiver.answer(response => response.writeHead(302, { location: '/elsewhere' }).end());
    expect(await send(receiver.url)).toEqual({ statusCode: 302, error: null });
    receiver.answer(response => response.writeHead(500).end('sorry'));
    expect(await send(receiver.url)).toEqual({ statusCode: 500, error: null });
    expect(receiver.received.slice(before).map(({ path }) => path)).toEqual(['/hook', '/hook']);
  });

  test('an answer that does not end is not waited for', async () => {
    receiver.answer(response => {
      response.writeHead(200);
      response.write('x'.repeat(100_000));
    });
    expect(await send(receiver.url)).toEqual({ statusCode: 200, error: null });
  });

  test('silence is given up', async () => {
    receiver.answer(() => undefined);
    expect(await send(receiver.url, LOOPBACK, 100)).toEqual({
      statusCode: null,
      error: 'no answer within 0.1 s',
    });
  });

  test('nobody there, or somebody who hangs up, is said', async () => {
    const hangup = createServer(socket => socket.destroy());
    await new Promise<void>(done => hangup.listen(0, '127.0.0.1', done));
    const { port } = hangup.address() as { port: number };
    expect(await send(`http://127.0.0.1:${port}/`)).toMatchObject({
      error: expect.stringMatching(/ECONNRESET/),
    });
    await new Promise(done => hangup.close(done));
    expect(await send(`http://127.0.0.1:${port}/`)).toMatchObject({
      error: expect.stringMatching(/ECONNREFUSED/),
    });
  });
});

describe('addresses', () => {
  test.each([
    'https://127.0.0.1/',
    'https://10.1.2.3/',
    'https://172.31.255.255/',
    'https://192.168.0.1/',
    'https://169.254.169.254/latest/meta-data/',
    'https://100.64.0.1/',
    'https://0.0.0.0/',
    'https://255.255.255.255/',
    'https://0x7f000001/', // 127.0.0.1
    'https://2130706433/', // 127.0.0.1
    'https://0177.0.0.1/', // 127.0.0.1
    'https://[::1]/',
    'https://[::]/',
    'https://[::ffff:10.0.0.1]/',
    'https://[::127.0.0.1]/',
    'https://[64:ff9b::a00:1]/',
    'https://[2002:a00:1::]/',
    'https://[fe80::1]/',
    'https://[fd00::1]/',
    'https://[ff02::1]/',
  ])('%s is refused', url => {
    expect(() => checkUrl(new URL(url), [])).toThrow('is not an address of the internet');
  });

  test.each(['https://93.184.215.14/', 'https://[2606:4700::1111]/', 'https://hooks.example.com/'])(
    '%s is not',
    url => {
      expect(() => checkUrl(new URL(url), [])).not.toThrow();
    },
  );

  test('plain http goes to allowed networks only', () => {
    expect(() => checkUrl(new URL('http://hooks.example.com/'), [])).toThrow('https://');
    expect(() => checkUrl(new URL('http://93.184.215.14/'), LOOPBACK)).toThrow('https://');
    expect(() => checkUrl(new URL('http://10.0.0.1/'), LOOPBACK)).toThrow('not an address of the internet');
    expect(() => checkUrl(new URL('http://127.0.0.1/'), LOOPBACK)).not.toThrow();
    expect(() => checkUrl(new URL('ftp://127.0.0.1/'), LOOPBACK)).toThrow('https://');
    expect(() => checkUrl(new URL('https://user:secret@example.com/'), [])).toThrow('password');
  });

  test('a name that resolves to a private address is refused before anything is connected to', async () => {
    const before = receiver.received.length;
    const url = `https://localhost:${receiver.port}/`;
    expect(await send(url, [])).toMatchObject({
      statusCode: null,
      error: expect.stringContaining('is not an address of the internet'),
    });
    expect(receiver.received).toHaveLength(before);
  });

  test('an allowed one is connected to by its name', async () => {
    receiver.answer(response => response.writeHead(204).end());
    const url = receiver.url.replace('127.0.0.1', 'localhost');
    const both: Network[] = [...LOOPBACK, { address: '::1', prefix: 128, family: 'ipv6' }];
    expect(await send(url, both)).toEqual({ statusCode: 204, error: null });
    expect(receiver.received.at(-1)!.headers.host).toBe(`localhost:${receiver.port}`);
  });

  test('a name that is unknown is said', async () => {
    expect(await send('https://name.invalid/')).toMatchObject({
      error: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/),
    });
  });
});
