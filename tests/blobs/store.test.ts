// What every object store must do: the same suite on a folder and on a real S3 server.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlobNotFound, type Blobs, BlobTooLarge } from '../../src/blobs/blobs.ts';
import { openFolder } from '../../src/blobs/folder.ts';
import { openS3 } from '../../src/blobs/s3.ts';
import { useS3 } from '../support/s3.ts';

describe('folder', () => {
  let directory = '';
  const store = {} as { blobs: Blobs };
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'anneal-test-blobs-'));
    store.blobs = await openFolder(directory);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));
  suite(() => store.blobs);

  test('a key leads nowhere else', async () => {
    for (const key of ['../x', 'a/../../x', '/x', 'a//b', '', '.', 'a/./b', '.unfinished/x', 'a\0b']) {
      await expect(store.blobs.put(key, Buffer.from('x')), key).rejects.toThrow('not an object key');
    }
  });

  test('localPath holds the bytes', async () => {
    await store.blobs.put('models/m/config.json', Buffer.from('{}'));
    expect(store.blobs.localPath('models/m/config.json')).toBe(join(directory, 'models/m/config.json'));
  });

  test('nothing is left of what failed or was deleted', async () => {
    await expect(store.blobs.put('left/over', breaksOff(1000))).rejects.toThrow('gone');
    await store.blobs.put('left/behind', Buffer.from('x'));
    await store.blobs.delete('left/behind');
    expect(await readdir(join(directory, '.unfinished'))).toEqual([]);
    expect(await readdir(directory)).not.toContain('left');
  });
});

describe('S3', () => {
  const server = useS3();
  const store = {} as { blobs: Blobs };
  beforeAll(() => {
    store.blobs = openS3(server.settings);
  });
  suite(() => store.blobs);

  test('content is stored as sent, without checksum trailers', async () => {
    await store.blobs.put('trailers/plain', Readable.from([Buffer.from('one '), Buffer.from('two')]));
    expect(await store.blobs.size('trailers/plain')).toBe(7);
    expect(await read(store.blobs, 'trailers/plain')).toEqual(Buffer.from('one two'));
  });

  test('a wrong key is said', async context => {
    if (!server.checksKeys) return context.skip('the server takes any key');
    const credentials = { accessKeyId: 'S3RVER', secretAccessKey: 'wrong' };
    const wrong = openS3({ ...server.settings, credentials });
    await expect(wrong.check()).rejects.toThrow(`S3 bucket ${server.settings.bucket}`);
  });

  test('an address where nobody listens is said', async () => {
    const wrong = openS3({ ...server.settings, endpoint: 'http://127.0.0.1:9' });
    await expect(wrong.check()).rejects.toThrow('ECONNREFUSED');
  });

  test('a server killed in the middle of a put shows nothing, and the next put works', async context => {
    if (!server.kill || !server.restart) return context.skip('the server is not ours to kill');
    const { body, half } = stops(40 * 2 ** 20, 20 * 2 ** 20);
    const put = store.blobs.put('killed/whole', body).then(
      () => 'stored',
      () => 'failed',
    );
    await half;
    await sleep(200);
    await server.kill();
    body.destroy(new Error('the client gave up'));
    expect(await put).toBe('failed');
    await server.restart();
    expect(await store.blobs.size('killed/whole')).toBeNull();
    expect(await keys(store.blobs, 'killed/')).toEqual([]);
    await store.blobs.put('killed/whole', Buffer.from('now'));
    expect(await read(store.blobs, 'killed/whole')).toEqual(Buffer.from('now'));
  }, 120_000);

  test('a server that is away for a moment during a put is waited for', async context => {
    if (!server.kill || !server.restart) return context.skip('the server is not ours to kill');
    await server.kill();
    const put = store.blobs.put('away/object', Buffer.from('patience'));
    await sleep(300);
    await server.restart();
    await put;
    expect(await read(store.blobs, 'away/object')).toEqual(Buffer.from('patience'));
  }, 60_000);
});

function suite(blobs: () => Blobs): void {
  test('answers', () => blobs().check());

  test('gives back what was put, with its size and sha256', async () => {
    const bytes = randomBytes(100_000);
    const info = await blobs().put('files/a', Readable.from([bytes.subarray(0, 7), bytes.subarray(7)]));
    expect(info).toEqual({ key: 'files/a', sizeBytes: 100_000, sha256: sha256(bytes) });
    expect(await read(blobs(), 'files/a')).toEqual(bytes);
    expect(await blobs().size('files/a')).toBe(100_000);
  });

  test('takes bytes and empty bodies', async () => {
    expect(await blobs().put('files/bytes', Buffer.from('abc'))).toMatchObject({ sizeBytes: 3 });
    const info = await blobs().put('files/empty', Readable.from([]));
    expect(info).toEqual({ key: 'files/empty', sizeBytes: 0, sha256: sha256(Buffer.alloc(0)) });
    expect(await read(blobs(), 'files/empty')).toEqual(Buffer.alloc(0));
  });

  test('takes an object of several parts', async () => {
    const bytes = randomBytes(40 * 2 ** 20);
    const pieces = Array.from({ length: 40 }, (_, index) => bytes.subarray(index << 20, (index + 1) << 20));
    const info = await blobs().put('files/parts', Readable.from(pieces));
    expect(info.sha256).toBe(sha256(bytes));
    expect(sha256(await read(blobs(), 'files/parts'))).toBe(sha256(bytes));
  }, 60_000);

  test('reads a range', async () => {
    await blobs().put('files/range', Buffer.from('0123456789'));
    const cases = { '0,3': '012', '4,10': '456789', '9,10': '9', '5,5': '' };
    for (const [range, expected] of Object.entries(cases)) {
      const [start, end] = range.split(',').map(Number) as [number, number];
      const stream = await blobs().get('files/range', { start, end });
      expect(String(await collect(stream)), range).toBe(expected);
    }
  });

  test('what is not there is BlobNotFound, null, and no error to delete', async () => {
    await expect(blobs().get('files/none')).rejects.toThrow(BlobNotFound);
    expect(await blobs().size('files/none')).toBeNull();
    await blobs().delete('files/none');
  });

  test('deletes and lists', async () => {
    const names = ['list/a', 'list/b/c', 'list/b/d', 'listed', 'list/e with spaces & ümläuts'];
    for (const name of names) await blobs().put(name, Buffer.from(name));
    expect(await keys(blobs(), 'list/')).toEqual(['list/a', 'list/b/c', 'list/b/d', names[4]].sort());
    expect(await keys(blobs(), 'list/b/')).toEqual(['list/b/c', 'list/b/d']);
    expect(await keys(blobs(), 'list/b/c')).toEqual(['list/b/c']);
    expect(await keys(blobs(), 'nothing/')).toEqual([]);
    await blobs().delete('list/b/c');
    expect(await keys(blobs(), 'list/b/')).toEqual(['list/b/d']);
  });

  test('takes names of models as keys', async () => {
    const key = 'models/ft:anneal-tiny:personal:my-suffix:aB3dE6gH:ckpt-step-12/adapter_model.safetensors';
    await blobs().put(key, Buffer.from('x'));
    expect(await keys(blobs(), 'models/ft:')).toEqual([key]);
    expect(String(await read(blobs(), key))).toBe('x');
  });

  test('replaces an object as a whole', async () => {
    await blobs().put('files/again', Buffer.from('the first, longer one'));
    await blobs().put('files/again', Buffer.from('second'));
    expect(String(await read(blobs(), 'files/again'))).toBe('second');
  });

  test('a source that breaks off leaves nothing', async () => {
    for (const size of [1000, 40 * 2 ** 20]) {
      await expect(blobs().put('broken/off', breaksOff(size))).rejects.toThrow('gone');
      expect(await blobs().size('broken/off')).toBeNull();
    }
    expect(await keys(blobs(), 'broken/')).toEqual([]);
  }, 60_000);

  test('a client that goes away without a word leaves nothing', async () => {
    const { body, half } = stops(30_000, 20_000);
    const put = blobs().put('broken/silent', body);
    await half;
    body.destroy();
    await expect(put).rejects.toThrow(/premature|aborted/i);
    expect(await blobs().size('broken/silent')).toBeNull();
  });

  test('an aborted put leaves nothing', async () => {
    const abort = new AbortController();
    const { body, half } = stops(30_000, 20_000);
    const put = blobs().put('broken/aborted', body, { signal: abort.signal });
    await half;
    abort.abort();
    await expect(put).rejects.toThrow(/abort/i);
    expect(await blobs().size('broken/aborted')).toBeNull();
  });

  test('more than the limit is BlobTooLarge, exactly the limit is not', async () => {
    const body = () => Readable.from([Buffer.alloc(600), Buffer.alloc(600)]);
    await expect(blobs().put('limit/over', body(), { limitBytes: 1199 })).rejects.toThrow(BlobTooLarge);
    expect(await blobs().size('limit/over')).toBeNull();
    await blobs().put('limit/at', body(), { limitBytes: 1200 });
    expect(await blobs().size('limit/at')).toBe(1200);
  });

  test('puts at the same time do not meet', async () => {
    const bodies = Array.from({ length: 20 }, (_, index) => Buffer.alloc(10_000, index));
    await Promise.all(bodies.map((body, index) => blobs().put(`many/${index % 5}/${index}`, body)));
    await Promise.all(bodies.map((_, index) => index % 2 || blobs().delete(`many/${index % 5}/${index}`)));
    const left = await keys(blobs(), 'many/');
    expect(left).toHaveLength(10);
    for (const key of left) {
      expect(await read(blobs(), key)).toEqual(Buffer.alloc(10_000, Number(key.split('/')[2])));
    }
  });
}

// ---- bodies and readers

/** Gives `sizeBytes`, then fails. */
function breaksOff(sizeBytes: number): Readable {
  async function* pieces() {
    for (let sent = 0; sent < sizeBytes; sent += 2 ** 20)
      yield Buffer.alloc(Math.min(2 ** 20, sizeBytes - sent));
    throw new Error('gone');
  }
  return Readable.from(pieces());
}

/** Gives `stopAfter` of `sizeBytes` bytes, resolves `half`, and gives no more. */
function stops(sizeBytes: number, stopAfter: number): { body: Readable; half: Promise<void> } {
  const reached = Promise.withResolvers<void>();
  const chunk = Math.min(2 ** 20, stopAfter);
  let sent = 0;
  const body = new Readable({
    read() {
      if (sent >= stopAfter) return reached.resolve();
      sent += chunk;
      this.push(Buffer.alloc(Math.min(chunk, sizeBytes)));
    },
  });
  return { body, half: reached.promise };
}

async function collect(stream: Readable): Promise<Buffer> {
  return Buffer.concat(await stream.toArray());
}

async function read(blobs: Blobs, key: string): Promise<Buffer> {
  return collect(await blobs.get(key));
}

async function keys(blobs: Blobs, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key, storedAt } of blobs.list(prefix)) {
    expect(Math.abs(Date.now() - storedAt.getTime())).toBeLessThan(3600_000);
    found.push(key);
  }
  return found.sort();
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
