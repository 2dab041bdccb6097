import { toFile } from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { removeExpiredKeys } from '../../src/store/idempotency.ts';
import { BASE_MODEL, startServer, useServer } from '../support/server.ts';

const server = useServer();
let trainingFile: string;

const withKey = (idempotencyKey: string) => ({ headers: { 'Idempotency-Key': idempotencyKey } });
const upload = async (text: string, key: string, name = 'train.jsonl', client = server.client) =>
  client.files.create({ file: await toFile(Buffer.from(text), name), purpose: 'fine-tune' }, withKey(key));
const createJob = (key: string, extra: object = {}, client = server.client) =>
  client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: trainingFile, ...extra }, withKey(key));
const count = async (table: string, where = 'true') =>
  (await server.database.pool.query(`select count(*)::int as n from ${table} where ${where}`)).rows[0].n;

async function fileKeys(prefix = 'files/'): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of server.deps.blobs.list(prefix)) found.push(key);
  return found;
}

const reused = { status: 409, code: 'idempotency_key_reused', param: 'Idempotency-Key' };

beforeAll(async () => {
  trainingFile = (await upload('{}\n', 'training')).id;
});

describe('a job', () => {
  test('is made once: sent again it is the same answer, though the job has changed since', async () => {
    const jobs = await count('jobs');
    const first = await createJob('job-1', { metadata: { team: 'ä' } });
    await server.client.fineTuning.jobs.cancel(first.id);
    const again = await createJob('job-1', { metadata: { team: 'ä' } }).withResponse();
    expect(again.data).toEqual(first);
    expect(again.response.headers.get('idempotent-replayed')).toBe('true');
    expect(await count('jobs')).toBe(jobs + 1);
    expect(await count('pgboss.job', `data->>'jobId' = '${first.id}'`)).toBe(1);
  });

  test('ten at once make one', async () => {
    const jobs = await count('jobs');
    const made = await Promise.all(Array.from({ length: 10 }, () => createJob('job-10')));
    expect(new Set(made.map(job => job.id)).size).toBe(1);
    expect(new Set(made.map(job => job.seed)).size).toBe(1);
    expect(await count('jobs')).toBe(jobs + 1);
  });

  test('another body with the key is a 409 that clients do not send again', async () => {
    await createJob('job-2');
    const jobs = await count('jobs');
    let sent = 0;
    const patient = server.client.withOptions({
      maxRetries: 3,
      fetch: (...request) => {
        sent += 1;
        return fetch(...request);
      },
    });
    const failure = await createJob('job-2', { suffix: 'other' }, patient).catch(error => error);
    expect(failure).toMatchObject(reused);
    expect(failure.headers.get('x-should-retry')).toBe('false');
    expect(sent).toBe(1);
    expect(await count('jobs')).toBe(jobs);
  });

  test('so is another path', async () => {
    await createJob('job-3');
    await expect(upload('x', 'job-3')).rejects.toMatchObject(reused);
    const begin = server.client.uploads.create(
      { filename: 'a.jsonl', purpose: 'fine-tune', bytes: 1, mime_type: 'x' },
      withKey('job-3'),
    );
    await expect(begin).rejects.toMatchObject(reused);
  });

  test('that was refused may be sent again, and is given its answer even when its file is gone', async () => {
    const { id } = await server.client.files.create({
      file: await toFile(Buffer.from('{}'), 'a.jsonl'),
      purpose: 'fine-tune',
    });
    await server.database.pool.query(`update files set purpose = 'user_data' where id = $1`, [id]);
    await expect(createJob('job-4', { training_file: id })).rejects.toMatchObject({ status: 400 });
    await server.database.pool.query(`update files set purpose = 'fine-tune' where id = $1`, [id]);
    const made = await createJob('job-4', { training_file: id });
    await server.client.files.delete(id);
    expect(await createJob('job-4', { training_file: id })).toEqual(made);
  });

  test('a dry run makes nothing and takes no key', async () => {
    const keys = await count('idempotency_keys');
    const request = server.client.post('/fine_tuning/jobs', {
      query: { dry_run: true },
      body: { model: 'none', training_file: 'none' },
      ...withKey('dry'),
    });
    await expect(request).rejects.toMatchObject({ status: 404 });
    expect(await count('idempotency_keys')).toBe(keys);
  });

  test('nothing is kept when it cannot be enqueued: neither job nor key', async () => {
    let failing = true;
    const broken = await startServer({
      deps: ({ queue }) => ({
        queue: {
          ...queue,
          enqueueValidation: (...given) =>
            failing ? Promise.reject(new Error('no queue')) : queue.enqueueValidation(...given),
        },
      }),
    });
    try {
      const file = await upload('{}\n', 'file', 'a.jsonl', broken.client);
      const create = () => createJob('job', { training_file: file.id }, broken.client);
      await expect(create()).rejects.toMatchObject({ status: 500 });
      failing = false;
      const job = await create();
      expect((await broken.client.fineTuning.jobs.list()).data).toEqual([job]);
    } finally {
      await broken.close();
    }
  });
});

describe('a file', () => {
  test('is stored once', async () => {
    const first = await upload('same bytes', 'file-1');
    const before = await fileKeys();
    expect(await upload('same bytes', 'file-1')).toEqual(first);
    expect(await fileKeys()).toEqual(before);
  });

  test.each([
    ['bytes', 'other bytes', 'train.jsonl'],
    ['name', 'same bytes', 'other.jsonl'],
  ])('other %s are a 409, and do not stay', async (_, text, name) => {
    await upload('same bytes', 'file-2');
    const before = await fileKeys();
    await expect(upload(text, 'file-2', name)).rejects.toMatchObject(reused);
    expect(await fileKeys()).toEqual(before);
  });

  test('many at once are one', async () => {
    const before = await fileKeys();
    const made = await Promise.all(Array.from({ length: 8 }, () => upload('at once', 'file-3')));
    expect(new Set(made.map(file => file.id)).size).toBe(1);
    expect(await fileKeys()).toHaveLength(before.length + 1);
  });
});

test('an upload, its parts and its completion are each made once', async () => {
  const { uploads } = server.client;
  const request = {
    filename: 'a.jsonl',
    purpose: 'fine-tune',
    bytes: 3,
    mime_type: 'text/jsonl',
  } as const;
  const begun = await uploads.create(request, withKey('u'));
  expect(await uploads.create(request, withKey('u'))).toEqual(begun);
  const add = async (text: string) =>
    uploads.parts.create(begun.id, { data: await toFile(Buffer.from(text), 'part') }, withKey('p'));
  const part = await add('abc');
  expect(await add('abc')).toEqual(part);
  await expect(add('abd')).rejects.toMatchObject(reused);
  expect(await fileKeys(`uploads/${begun.id}/`)).toHaveLength(1);
  const before = await fileKeys();
  const complete = () => uploads.complete(begun.id, { part_ids: [part.id] }, withKey('c'));
  const completed = [...(await Promise.all([complete(), complete(), complete()])), await complete()];
  expect(new Set(completed.map(({ file }) => file!.id)).size).toBe(1);
  expect(completed[3]).toEqual(completed[0]);
  expect(await fileKeys()).toHaveLength(before.length + 1);
  expect(await add('abc')).toEqual(part);
  expect(await fileKeys(`uploads/${begun.id}/`)).toEqual([]);
  await expect(uploads.complete(begun.id, { part_ids: [part.id] }, withKey('d'))).rejects.toMatchObject({
    status: 400,
    code: 'invalid_upload_state',
  });
});

test('a key is one of its project', async () => {
  const own = await upload('x', 'shared');
  const theirs = await upload('y', 'shared', 'train.jsonl', server.otherClient);
  expect(theirs.id).not.toBe(own.id);
});

test('a key is free again after a day', async () => {
  const first = await upload('x', 'old');
  await server.database.pool.query(`update idempotency_keys set expires_at = now() where key = 'old'`);
  const second = await upload('another', 'old');
  expect(second.id).not.toBe(first.id);
  expect(await upload('another', 'old')).toEqual(second);
  await server.database.pool.query(`update idempotency_keys set expires_at = now() where key = 'old'`);
  expect(await removeExpiredKeys(server.database.pool)).toBe(1);
  expect(await count('idempotency_keys', `key = 'old'`)).toBe(0);
  expect(await count('idempotency_keys', `key = 'shared'`)).toBe(2);
});

test('a key that is too long is refused', async () => {
  await expect(createJob('k'.repeat(256))).rejects.toMatchObject({ status: 400, param: 'Idempotency-Key' });
  expect((await createJob('k'.repeat(255))).status).toBe('validating_files');
});
