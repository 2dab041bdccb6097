// What is deleted or has expired goes, and what a job still reads stays.
import pino from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expireFiles } from '../../src/queue/expire-files.ts';
import { everyMinute, keepHouse } from '../../src/queue/housekeeping.ts';
import { removeModels } from '../../src/queue/remove-models.ts';
import { sweepObjects } from '../../src/queue/sweep-objects.ts';
import { markRemovableFiles } from '../../src/store/files.ts';
import { insertModel, markModelDeleted } from '../../src/store/models.ts';
import { useDatabase } from '../support/postgres.ts';
import { chatLines, openSetting, type Setting } from './setting.ts';

const database = useDatabase();
let setting: Setting;
beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
});
afterAll(() => setting.close());

async function hasObject(fileId: string): Promise<boolean> {
  return (await setting.blobs.size(`files/${fileId}`)) !== null;
}

test('deleted and expired files lose their objects, then their rows', async () => {
  const files = await Promise.all(
    ['kept', 'deleted', 'expired', 'later'].map(() => setting.putFile(chatLines(1))),
  );
  const [kept, deleted, expired, later] = files as [string, string, string, string];
  await setting.pool.query('update files set deleted_at = now() where id = $1', [deleted]);
  await setting.pool.query(`update files set expires_at = now() - interval '1 s' where id = $1`, [expired]);
  await setting.pool.query(`update files set expires_at = now() + interval '1 h' where id = $1`, [later]);
  expect(await expireFiles(setting)).toBe(2);
  expect(await Promise.all(files.map(hasObject))).toEqual([true, false, false, true]);
  const { rows } = await setting.pool.query('select id from files where id = any($1)', [files]);
  expect(rows.map(row => row.id).sort()).toEqual([kept, later].sort());
  expect(await expireFiles(setting)).toBe(0);
});

test('a file that a job still reads is kept until the job ends', async () => {
  const trainingFile = await setting.putFile(chatLines(10));
  const validationFile = await setting.putFile(chatLines(2));
  const job = await setting.createJob({ trainingFile, validationFile });
  await setting.pool.query('update files set deleted_at = now() where id = any($1)', [
    [trainingFile, validationFile],
  ]);
  expect(await expireFiles(setting)).toBe(0);
  expect(await hasObject(trainingFile)).toBe(true);
  await setting.change(job, 'cancel');
  expect(await expireFiles(setting)).toBe(2);
  expect(await hasObject(validationFile)).toBe(false);
});

test('files that are still read do not keep the place of others', async () => {
  const read = await setting.putFile(chatLines(10));
  const job = await setting.createJob({ trainingFile: read });
  const unread = await setting.putFile(chatLines(1));
  await setting.pool.query('update files set deleted_at = now() where id = any($1)', [[read, unread]]);
  expect((await markRemovableFiles(setting.pool, 1)).map(({ id }) => id)).toEqual([unread]);
  await setting.change(job, 'cancel');
  expect(await expireFiles(setting)).toBe(2);
});

test('what cannot be removed does not keep what comes after it, and is tried again', async () => {
  const [stuck, next] = [await setting.putFile(chatLines(1)), await setting.putFile(chatLines(1))];
  await setting.pool.query('update files set deleted_at = now() where id = any($1)', [[stuck, next]]);
  const model = await putModel('ft:after-files');
  await markModelDeleted(setting.pool, setting.projectId, 'ft:after-files');
  const warnings: string[] = [];
  const log = pino({ level: 'warn' }, { write: line => void warnings.push(JSON.parse(line).what) });
  const deps = {
    ...setting,
    log,
    blobs: {
      ...setting.blobs,
      delete: async (key: string) => {
        if (key === `files/${stuck}`) throw new Error('it is locked');
        await setting.blobs.delete(key);
      },
    },
  };
  const { signal } = new AbortController();
  await keepHouse(everyMinute, deps, signal);
  expect([await hasObject(stuck), await hasObject(next)]).toEqual([true, false]);
  expect(await setting.blobs.size(model)).toBeNull();
  expect(warnings).toEqual(['files']);
  await keepHouse(everyMinute, { ...setting, log }, signal);
  expect(warnings).toEqual(['files']);
  expect(await hasObject(stuck)).toBe(false);
});

test('a worker that ends does not finish the house first', async () => {
  const file = await setting.putFile(chatLines(1));
  await setting.pool.query('update files set deleted_at = now() where id = $1', [file]);
  const ended = AbortSignal.abort();
  expect(await expireFiles(setting, ended)).toBe(0);
  await setting.blobs.put('files/file-without-a-row', Buffer.from('x'));
  expect(await sweepObjects(setting, { now: Date.now() + 49 * 3600_000, signal: ended })).toBe(0);
  await setting.blobs.delete('files/file-without-a-row');
  expect(await expireFiles(setting)).toBe(1);
});

async function putModel(
  id: string,
  options: { kind?: 'adapter' | 'full'; base?: string; key?: string } = {},
) {
  const key = options.key ?? `models/${id}/weights`;
  await setting.blobs.put(key, Buffer.from('x'));
  await insertModel(setting.pool, {
    id,
    projectId: setting.projectId,
    kind: options.kind ?? 'adapter',
    architecture: 'llama',
    baseModel: options.base ?? 'llama-tiny',
    jobId: null,
    step: 1,
    ownedBy: 'org-anneal',
    files: [{ path: 'weights', key, bytes: 1, sha256: '' }],
  });
  return key;
}

test('a deleted model loses its objects, except those that another model shares', async () => {
  const own = await putModel('ft:a');
  const shared = await putModel('ft:b', { key: 'models/shared' });
  await putModel('ft:c', { key: 'models/shared' });
  for (const id of ['ft:a', 'ft:b']) await markModelDeleted(setting.pool, setting.projectId, id);
  await removeModels(setting);
  expect(await setting.blobs.size(own)).toBeNull();
  expect(await setting.blobs.size(shared)).toBe(1);
  await markModelDeleted(setting.pool, setting.projectId, 'ft:c');
  await removeModels(setting);
  expect(await setting.blobs.size(shared)).toBeNull();
});

test('a deleted model that a job trains on, or that an adapter sits on, keeps its objects that long', async () => {
  const full = await putModel('ft:full', { kind: 'full' });
  await putModel('ft:on-full', { base: 'ft:full' });
  const job = await setting.createJob({
    trainingFile: await setting.putFile(chatLines(10)),
    model: 'ft:on-full',
  });
  const checkpoint = 'ft:on-full:ckpt-step-1';
  await putModel(checkpoint, { base: 'ft:full', key: 'models/ft:on-full/weights' });
  for (const id of ['ft:full', 'ft:on-full', checkpoint])
    await markModelDeleted(setting.pool, setting.projectId, id);
  const adapter = 'models/ft:on-full/weights'; // the checkpoint's, too
  await removeModels(setting);
  expect(await setting.blobs.size(adapter)).toBe(1);
  expect(await setting.blobs.size(full)).toBe(1); // the job needs it, though both are deleted
  await setting.change(job, 'cancel');
  await removeModels(setting);
  expect(await setting.blobs.size(adapter)).toBeNull();
  await removeModels(setting);
  expect(await setting.blobs.size(full)).toBeNull();
});

test('objects that no row names go, once they are old', async () => {
  const file = await setting.putFile(chatLines(1));
  await putModel('named', { kind: 'full' });
  const orphans = ['files/file-of-a-killed-api', 'models/named/earlier-version/weights'];
  for (const key of orphans) await setting.blobs.put(key, Buffer.from('x'));
  await setting.blobs.put('jobs/of-another-sweep/1/x', Buffer.from('x'));
  expect(await sweepObjects(setting)).toBe(0);
  expect(await sweepObjects(setting, { now: Date.now() + 49 * 3600_000 })).toBe(2);
  for (const key of orphans) expect(await setting.blobs.size(key)).toBeNull();
  for (const key of [`files/${file}`, 'models/named/weights', 'jobs/of-another-sweep/1/x'])
    expect(await setting.blobs.size(key)).toBeGreaterThan(0);
});
