import { createHash, randomBytes } from 'node:crypto';
import { toFile } from 'openai';
import supertest from 'supertest';
import { describe, expect, test } from 'vitest';
import { cleanUploads } from '../../src/queue/expire-uploads.ts';
import { BASE_MODEL, startServer, useServer } from '../support/server.ts';

const server = useServer({ environment: { ANNEAL_FILE_LIMIT_MB: '2' } });
const MIB = 2 ** 20;

const begin = (bytes: number, extra: object = {}, client = server.client) =>
  client.uploads.create({
    filename: 'train.jsonl',
    purpose: 'fine-tune',
    bytes,
    mime_type: 'text/jsonl',
    ...extra,
  });

const add = async (id: string, bytes: Buffer, client = server.client) =>
  client.uploads.parts.create(id, { data: await toFile(bytes, 'part') });

async function keys(prefix: string, { blobs } = server.deps): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of blobs.list(prefix)) found.push(key);
  return found;
}

const content = async (id: string, client = server.client) =>
  Buffer.from(await (await client.files.content(id)).arrayBuffer());

const age = (id: string, seconds: number) =>
  server.database.pool.query(
    'update uploads set expires_at = now() - make_interval(secs => $2) where id = $1',
    [id, seconds],
  );

describe('the whole way', () => {
  test('parts that came at once, in the order that completing gives', async () => {
    const parts = Array.from({ length: 5 }, () => randomBytes(MIB + 7));
    const whole = Buffer.concat(parts);
    const upload = await begin(whole.length);
    expect(upload).toEqual({
      id: expect.stringMatching(/^upload_[A-Za-z0-9]{24}$/),
      object: 'upload',
      bytes: whole.length,
      created_at: expect.any(Number),
      expires_at: upload.created_at + 3600,
      filename: 'train.jsonl',
      purpose: 'fine-tune',
      status: 'pending',
      file: null,
    });
    const stored = await Promise.all([...parts].reverse().map(part => add(upload.id, part)));
    expect(stored[0]).toEqual({
      id: expect.stringMatching(/^part_[A-Za-z0-9]{24}$/),
      object: 'upload.part',
      created_at: expect.any(Number),
      upload_id: upload.id,
    });
    const completed = await server.client.uploads.complete(upload.id, {
      part_ids: stored.map(part => part.id).reverse(),
      md5: createHash('md5').update(whole).digest('hex').toUpperCase(),
    });
    expect(completed).toMatchObject({ id: upload.id, status: 'completed' });
    // larger than a file that is uploaded at once may be
    expect(completed.file).toMatchObject({
      object: 'file',
      bytes: whole.length,
      filename: 'train.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
      expires_at: null,
    });
    const { id } = completed.file!;
    expect((await content(id)).equals(whole)).toBe(true);
    expect(await server.client.files.retrieve(id)).toEqual(completed.file);
    const { rows } = await server.database.pool.query('select sha256 from files where id = $1', [id]);
    expect(rows[0].sha256).toBe(createHash('sha256').update(whole).digest('hex'));
    expect(await keys(`uploads/${upload.id}/`)).toEqual([]);
    const job = await server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: id });
    expect(job.training_file).toBe(id);
  });

  test('a part that is not named is left out, and one may be named twice', async () => {
    const upload = await begin(6);
    const [a, , b] = [
      await add(upload.id, Buffer.from('ab')),
      await add(upload.id, Buffer.from('xx')),
      await add(upload.id, Buffer.from('cd')),
    ];
    const { file } = await server.client.uploads.complete(upload.id, { part_ids: [b!.id, a!.id, b!.id] });
    expect((await content(file!.id)).toString()).toBe('cdabcd');
  });

  test('the file expires when it was asked to', async () => {
    const upload = await begin(1, { expires_after: { anchor: 'created_at', seconds: 7200 } });
    const { id } = await add(upload.id, Buffer.from('x'));
    const { file } = await server.client.uploads.complete(upload.id, { part_ids: [id] });
    expect(file!.expires_at).toBe(file!.created_at + 7200);
  });

  test('of two that complete it one makes the file', async () => {
    const upload = await begin(3);
    const { id } = await add(upload.id, Buffer.from('abc'));
    const before = await keys('files/');
    const results = await Promise.all(
      [1, 2, 3].map(() =>
        server.client.uploads.complete(upload.id, { part_ids: [id] }).catch(error => error),
      ),
    );
    expect(results.filter(({ status }) => status === 'completed')).toHaveLength(1);
    for (const error of results.filter(({ status }) => status !== 'completed')) {
      expect(error).toMatchObject({ status: 400, code: 'invalid_upload_state' });
    }
    expect(await keys('files/')).toHaveLength(before.length + 1);
  });
});

describe('create refuses', () => {
  test.each([
    [{ bytes: 0 }, 'bytes', /Expected a value >= 1/],
    [{ bytes: 8192 * MIB + 1 }, 'bytes', /Expected a value <= 8589934592/],
    [{ purpose: 'tea' }, 'purpose', /Supported values/],
    [{ filename: 'train.csv' }, 'filename', /Invalid extension 'csv'/],
    [{ filename: `${'a'.repeat(250)}.jsonl` }, 'filename', /maximum length 255/],
    [{ mime_type: undefined }, 'mime_type', /Missing required parameter/],
    [{ expires_after: { anchor: 'created_at', seconds: 60 } }, 'expires_after.seconds', />= 3600/],
    [{ colour: 'red' }, 'colour', /Unknown parameter/],
  ])('%j', async (extra, param, message) => {
    const failure = await begin(1, extra).catch(error => error);
    expect(failure).toMatchObject({ status: 400, param });
    expect(failure.message).toMatch(message);
  });
});

describe('a part is refused', () => {
  test('when it is larger than 64 MB, before its bytes are read', async () => {
    const upload = await begin(100 * MIB);
    const failure = await add(upload.id, Buffer.alloc(66 * MIB)).catch(error => error);
    expect(failure).toMatchObject({ status: 413, param: 'data', code: 'file_too_large' });
    expect(failure.message).toContain('The part is larger than the limit of 64 MB.');
    expect(await keys(`uploads/${upload.id}/`)).toEqual([]);
  });

  test('when all together are far more than was announced', async () => {
    const upload = await begin(1);
    await add(upload.id, Buffer.alloc(40 * MIB));
    const failure = await add(upload.id, Buffer.alloc(40 * MIB)).catch(error => error);
    expect(failure).toMatchObject({ status: 400, param: 'data' });
    expect(await keys(`uploads/${upload.id}/`)).toHaveLength(1);
  });

  test.each([
    ['no data', 'other', 'x', 'other'],
    ['a field that is not known', 'name', undefined, 'name'],
  ])('with %s', async (_, field, filename, param) => {
    const upload = await begin(1);
    const request = supertest(server.url)
      .post(`/v1/uploads/${upload.id}/parts`)
      .auth(server.key, { type: 'bearer' });
    const { status, body } = await (filename
      ? request.attach(field, Buffer.from('x'), filename)
      : request.attach('data', Buffer.from('x'), 'part').field(field, 'x'));
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ param, code: 'unknown_parameter' });
    expect(await keys(`uploads/${upload.id}/`)).toEqual([]);
  });

  test('with no field at all', async () => {
    const upload = await begin(1);
    const { status, body } = await supertest(server.url)
      .post(`/v1/uploads/${upload.id}/parts`)
      .auth(server.key, { type: 'bearer' })
      .set('content-type', 'multipart/form-data; boundary=B')
      .send('--B--\r\n');
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ param: 'data' });
  });
});

describe('complete refuses', () => {
  test('parts that are too few, too many, unknown, or of another upload; then it still can be completed', async () => {
    const upload = await begin(4);
    const other = await begin(4);
    const [a, b, c] = [
      await add(upload.id, Buffer.from('ab')),
      await add(upload.id, Buffer.from('cd')),
      await add(other.id, Buffer.from('ef')),
    ];
    const complete = (...part_ids: string[]) => server.client.uploads.complete(upload.id, { part_ids });
    const before = await keys('files/');
    for (const ids of [[a!.id], [a!.id, b!.id, a!.id], [a!.id, 'part_none'], [a!.id, c!.id]])
      await expect(complete(...ids)).rejects.toMatchObject({ status: 400, param: 'part_ids' });
    await expect(complete()).rejects.toMatchObject({ status: 400, param: 'part_ids' });
    const md5 = createHash('md5').update('cdab').digest('hex');
    const wrong = server.client.uploads.complete(upload.id, { part_ids: [a!.id, b!.id], md5 });
    await expect(wrong).rejects.toMatchObject({ status: 400, param: 'md5' });
    expect(await keys('files/')).toEqual(before);
    expect((await complete(b!.id, a!.id)).status).toBe('completed');
  });

  test('when the store breaks off: a 503 that may be tried again, and no file', async () => {
    let failing = true;
    const broken = await startServer({
      deps: ({ blobs }) => ({
        blobs: {
          ...blobs,
          put: (key, body, options) =>
            failing && key.startsWith('files/')
              ? Promise.reject(new Error('ENOSPC at 10.0.0.1'))
              : blobs.put(key, body, options),
        },
      }),
    });
    try {
      const upload = await begin(2, {}, broken.client);
      const { id } = await add(upload.id, Buffer.from('ab'), broken.client);
      const complete = () => broken.client.uploads.complete(upload.id, { part_ids: [id] });
      await expect(complete()).rejects.toMatchObject({ status: 503, code: 'storage_unavailable' });
      expect((await broken.client.files.list()).data).toEqual([]);
      failing = false;
      expect((await complete()).status).toBe('completed');
    } finally {
      await broken.close();
    }
  });
});

describe('the end', () => {
  const refused = { status: 400, code: 'invalid_upload_state' };

  test('a cancelled upload has no parts, takes none, and cannot be completed or cancelled', async () => {
    const upload = await begin(1);
    const { id } = await add(upload.id, Buffer.from('x'));
    expect(await server.client.uploads.cancel(upload.id)).toEqual({ ...upload, status: 'cancelled' });
    expect(await keys(`uploads/${upload.id}/`)).toEqual([]);
    await expect(add(upload.id, Buffer.from('x'))).rejects.toMatchObject(refused);
    await expect(server.client.uploads.cancel(upload.id)).rejects.toMatchObject(refused);
    await expect(server.client.uploads.complete(upload.id, { part_ids: [id] })).rejects.toMatchObject(
      refused,
    );
  });

  test('an expired one, too; what it left is swept an hour later', async () => {
    const upload = await begin(1);
    const young = await begin(1);
    const { id } = await add(upload.id, Buffer.from('x'));
    await add(young.id, Buffer.from('x'));
    await age(upload.id, 1);
    await expect(add(upload.id, Buffer.from('x'))).rejects.toMatchObject(refused);
    await expect(server.client.uploads.cancel(upload.id)).rejects.toThrow(/is expired; it must be pending/);
    await cleanUploads(server.deps);
    expect(await keys(`uploads/${upload.id}/`)).toEqual([`uploads/${upload.id}/${id}`]);
    await age(upload.id, 3601);
    expect(await cleanUploads(server.deps)).toBe(1);
    expect(await keys(`uploads/${upload.id}/`)).toEqual([]);
    expect(await keys(`uploads/${young.id}/`)).toHaveLength(1);
    expect(await cleanUploads(server.deps)).toBe(0);
    const { rows } = await server.database.pool.query('select status from uploads where id = $1', [
      upload.id,
    ]);
    expect(rows).toEqual([{ status: 'expired' }]);
  });

  test('a completed one is swept without harm to its file', async () => {
    const upload = await begin(1);
    const { id } = await add(upload.id, Buffer.from('x'));
    const { file } = await server.client.uploads.complete(upload.id, { part_ids: [id] });
    await age(upload.id, 3601);
    await cleanUploads(server.deps);
    expect((await content(file!.id)).toString()).toBe('x');
    const { rows } = await server.database.pool.query('select status from uploads where id = $1', [
      upload.id,
    ]);
    expect(rows).toEqual([{ status: 'completed' }]);
  });

  test("another project's upload is unknown", async () => {
    const upload = await begin(1);
    const { id } = await add(upload.id, Buffer.from('x'));
    const unknown = { status: 404, param: 'upload_id' };
    const { uploads } = server.otherClient;
    await expect(add(upload.id, Buffer.from('x'), server.otherClient)).rejects.toMatchObject(unknown);
    await expect(uploads.complete(upload.id, { part_ids: [id] })).rejects.toMatchObject(unknown);
    await expect(uploads.cancel(upload.id)).rejects.toMatchObject(unknown);
  });
});
