// Bringing stored models onto the machine: whole, verified, once, from a folder store without a copy.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BlobNotFound, type Blobs } from '../../src/blobs/blobs.ts';
import { openFolder } from '../../src/blobs/folder.ts';
import { type ModelFile, openModelCache } from '../../src/serving/model-cache.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-cache-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const contents = { 'config.json': '{"a": 1}', 'sub/weights.bin': 'x'.repeat(200_000) };
const files: ModelFile[] = Object.entries(contents).map(([path, text]) => ({
  path,
  key: `models/m/${path}`,
  bytes: text.length,
  sha256: createHash('sha256').update(text).digest('hex'),
}));

/** A store that is no folder, with what its answers took. */
function remote(change: Record<string, string> = {}) {
  const objects = new Map(files.map(file => [file.key, contents[file.path as keyof typeof contents]]));
  for (const [key, text] of Object.entries(change)) objects.set(key, text);
  const asked: string[] = [];
  const blobs = {
    localPath: () => null,
    async get(key: string) {
      asked.push(key);
      const text = objects.get(key);
      if (text === undefined) throw new BlobNotFound(key);
      return Readable.from([Buffer.from(text.slice(0, 7)), Buffer.from(text.slice(7))]);
    },
  } as unknown as Blobs;
  return { blobs, asked, objects };
}

test('downloads every file once, for concurrent and later calls', async () => {
  const { blobs, asked } = remote();
  const cache = openModelCache(blobs, join(folder, 'cache'));
  const [first, second] = await Promise.all([cache.materialize(files), cache.materialize(files)]);
  expect(first).toBe(second);
  expect(await cache.materialize(files.toReversed())).toBe(first);
  expect(asked.length).toBe(2);
  for (const [path, text] of Object.entries(contents))
    expect(await readFile(join(first, path), 'utf8')).toBe(text);
  expect(await openModelCache(blobs, join(folder, 'cache')).materialize(files)).toBe(first);
  expect(asked.length).toBe(2);
});

test('two processes at once end with one folder', async () => {
  const caches = [remote(), remote()].map(({ blobs }) => openModelCache(blobs, join(folder, 'cache')));
  const [first, second] = await Promise.all(caches.map(cache => cache.materialize(files)));
  expect(first).toBe(second);
  expect(await readdir(join(folder, 'cache'))).toHaveLength(1);
});

test.each([
  ['other content', 'y'.repeat(200_000), /has sha256 .* instead of/],
  ['less content', 'x'.repeat(199_999), /has 199999 bytes instead of 200000/],
])('%s leaves nothing behind, and is tried again', async (_, text, message) => {
  const { blobs, objects } = remote({ 'models/m/sub/weights.bin': text });
  const cache = openModelCache(blobs, join(folder, 'cache'));
  await expect(cache.materialize(files)).rejects.toThrow(message);
  expect(await readdir(join(folder, 'cache'))).toEqual([]);
  objects.set('models/m/sub/weights.bin', contents['sub/weights.bin']);
  expect(await readdir(await cache.materialize(files))).toContain('config.json');
});

test('an object that is not there', async () => {
  const cache = openModelCache(remote().blobs, join(folder, 'cache'));
  const missing = { ...files[0]!, key: 'models/none' };
  await expect(cache.materialize([missing])).rejects.toThrow(BlobNotFound);
});

test.each(['../out', '/etc/passwd', 'a/../../b', ''])('the path %j is refused', async path => {
  const cache = openModelCache(remote().blobs, join(folder, 'cache'));
  await expect(cache.materialize([{ ...files[0]!, path }])).rejects.toThrow(/leaves its folder/);
});

test('a folder store is used where it lies, when it lies as a model does', async () => {
  const blobs = await openFolder(join(folder, 'store'));
  for (const { key, path } of files)
    await blobs.put(key, Buffer.from(contents[path as keyof typeof contents]));
  const cache = openModelCache(blobs, join(folder, 'cache'));
  expect(await cache.materialize(files)).toBe(blobs.localPath('models/m'));
  const moved = files.map((file, i) => ({ ...file, path: `other-${i}` }));
  expect(await cache.materialize(moved)).toContain(join(folder, 'cache'));
  await expect(cache.materialize(files.map(file => ({ ...file, bytes: 3 })))).rejects.toThrow(/instead of 3/);
});

test('an object that a folder store has lost is named', async () => {
  const blobs = await openFolder(join(folder, 'store'));
  await blobs.put(files[0]!.key, Buffer.from(contents['config.json']));
  const cache = openModelCache(blobs, join(folder, 'cache'));
  await expect(cache.materialize(files)).rejects.toThrow(BlobNotFound);
});

test('sweeps away what a killed download has left, a day later', async () => {
  const left = join(folder, 'cache', '.partial-old');
  const fresh = join(folder, 'cache', '.partial-new');
  await mkdir(left, { recursive: true });
  await mkdir(fresh);
  const longAgo = Date.now() / 1000 - 2 * 24 * 3600;
  await utimes(left, longAgo, longAgo);
  await openModelCache(remote().blobs, join(folder, 'cache')).materialize(files);
  const names = await readdir(join(folder, 'cache'));
  expect(names).toContain('.partial-new');
  expect(names).not.toContain('.partial-old');
});
