import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { toFile } from 'openai';
import supertest from 'supertest';
import { describe, expect, test } from 'vitest';
import type { Blobs } from '../../src/blobs/blobs.ts';
import { BASE_MODEL, startServer, useServer } from '../support/server.ts';

const server = useServer({ environment: { ANNEAL_FILE_LIMIT_MB: '2' } });
const MIB = 2 ** 20;

const upload = (content: string | Buffer, name = 'train.jsonl', client = server.client) =>
  toFile(Buffer.from(content), name).then(file => client.files.create({ file, purpose: 'fine-tune' }));

async function keys(blobs: Blobs): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of blobs.list('files/')) found.push(key);
  return found.sort();
}

function multipart(parts: [name: string, value: string, filename?: string][]): {
  type: string;
  body: string;
} {
  const body = parts.map(([name, value, filename]) => {
    const file = filename ? `; filename="${filename}"\r\nContent-Type: application/octet-stream` : '';
    return `--B\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n${value}\r\n`;
  });
  return { type: 'multipart/form-data; boundary=B', body: `${body.join('')}--B--\r\n` };
}

const post = (parts: [string, string, string?][]) => {
  const { type, body } = multipart(parts);
  return supertest(server.url)
    .post('/v1/files')
    .auth(server.key, { type: 'bearer' })
    .set('content-type', type)
    .send(body);
};

describe('upload', () => {
  test('with the official client: the file comes before its purpose', async () => {
    const file = await upload('{"a":1}\n');
    expect(file).toMatchObject({
      object: 'file',
      bytes: 8,
      filename: 'train.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
      expires_at: null,
    });
    expect(file.id).toMatch(/^file-[A-Za-z0-9]{24}$/);
    const { rows } = await server.database.pool.query('select sha256, blob_key from files where id = $1', [
      file.id,
    ]);
    expect(rows[0].sha256).toBe(createHash('sha256').update('{"a":1}\n').digest('hex'));
    expect(rows[0].blob_key).toBe(`files/${file.id}`);
  });

  test("in the Python client's order: purpose, expiry, then the file", async () => {
    const { body, status } = await post([
      ['purpose', 'fine-tune'],
      ['expires_after[anchor]', 'created_at'],
      ['expires_after[seconds]', '3600'],
      ['file', '{}\n', 'a.jsonl'],
    ]);
    expect(status).toBe(200);
    expect(body.expires_at).toBe(body.created_at + 3600);
  });

  test('expires_after from the official client', async () => {
    const file = await toFile(Buffer.from('x'), 'notes.txt');
    const created = await server.client.files.create({
      file,
      purpose: 'user_data',
      expires_after: { anchor: 'created_at', seconds: 7200 },
    });
    expect(created.expires_at).toBe(created.created_at + 7200);
  });

  const wrong: [string, [string, string, string?][], number, string | null, RegExp][] = [
    ['no purpose', [['file', 'x', 'a.jsonl']], 400, 'purpose', /Missing required parameter: 'purpose'/],
    ['no file', [['purpose', 'fine-tune']], 400, 'file', /Missing required parameter: 'file'/],
    [
      'an unknown purpose',
      [
        ['file', 'x', 'a.jsonl'],
        ['purpose', 'tea'],
      ],
      400,
      'purpose',
      /'tea'.*'fine-tune'/,
    ],
    [
      'another extension, file first',
      [
        ['file', 'x', 'a.csv'],
        ['purpose', 'fine-tune'],
      ],
      400,
      'file',
      /'csv'.*"jsonl"/,
    ],
    [
      'another extension, file last',
      [
        ['purpose', 'fine-tune'],
        ['file', 'x', 'a.csv'],
      ],
      400,
      'file',
      /'csv'.*"jsonl"/,
    ],
    [
      'a name that is too long for the headers of a download',
      [
        ['purpose', 'user_data'],
        ['file', 'x', 'a'.repeat(256)],
      ],
      400,
      'file',
      /maximum length 255, but got one with length 256/,
    ],
    [
      'an unknown field',
      [
        ['purpose', 'batch'],
        ['colour', 'red'],
        ['file', 'x', 'a.jsonl'],
      ],
      400,
      'colour',
      /Unknown parameter/,
    ],
    [
      'an expiry without anchor',
      [
        ['file', 'x', 'a.jsonl'],
        ['purpose', 'batch'],
        ['expires_after[seconds]', '3600'],
      ],
      400,
      'expires_after.anchor',
      /Missing/,
    ],
    [
      'an expiry that is too short',
      [
        ['purpose', 'batch'],
        ['expires_after[anchor]', 'created_at'],
        ['expires_after[seconds]', '60'],
        ['file', 'x', 'a.jsonl'],
      ],
      400,
      'expires_after.seconds',
      /3600/,
    ],
  ];
  test.each(wrong)('refuses %s, and keeps nothing', async (_, parts, status, param, message) => {
    const before = await keys(server.deps.blobs);
    const response = await post(parts);
    expect(response.status).toBe(status);
    expect(response.body.error).toMatchObject({
      type: 'invalid_request_error',
      param,
      message: expect.stringMatching(message),
    });
    expect(await keys(server.deps.blobs)).toEqual(before);
  });

  test('refuses what is not a form', async () => {
    const response = await supertest(server.url)
      .post('/v1/files')
      .auth(server.key, { type: 'bearer' })
      .send({ purpose: 'fine-tune' });
    expect([response.status, response.body.error.type]).toEqual([415, 'invalid_request_error']);
  });

  test('whose row cannot be written leaves nothing', async () => {
    const before = await keys(server.deps.blobs);
    const body =
      '--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n' +
      `--B\r\nContent-Disposition: form-data; name="file"; filename*=UTF-8''a%00.txt\r\n\r\nx\r\n--B--\r\n`;
    const response = await supertest(server.url)
      .post('/v1/files')
      .auth(server.key, { type: 'bearer' })
      .set('content-type', 'multipart/form-data; boundary=B')
      .send(body);
    expect(response.status).toBe(400);
    expect(await keys(server.deps.blobs)).toEqual(before);
  });

  test('refuses a form that breaks off', async () => {
    const { type, body } = multipart([
      ['purpose', 'fine-tune'],
      ['file', 'x', 'a.jsonl'],
    ]);
    const response = await supertest(server.url)
      .post('/v1/files')
      .auth(server.key, { type: 'bearer' })
      .set('content-type', type)
      .send(body.slice(0, -12));
    expect(response.status).toBe(400);
    expect(response.body.error.type).toBe('invalid_request_error');
  });

  test.each([
    ['says its length', (bytes: Buffer) => bytes],
    [
      'streams',
      (bytes: Buffer) =>
        Readable.toWeb(Readable.from([bytes.subarray(0, MIB), bytes.subarray(MIB)])) as ReadableStream,
    ],
  ])('refuses more than the limit when the client %s, and keeps nothing', async (_, send) => {
    const before = await keys(server.deps.blobs);
    const { type, body } = multipart([
      ['file', 'x'.repeat(4 * MIB), 'a.jsonl'],
      ['purpose', 'fine-tune'],
    ]);
    const response = await fetch(`${server.url}/v1/files`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.key}`, 'content-type': type },
      body: send(Buffer.from(body)),
      duplex: 'half',
    } as RequestInit);
    expect(response.status).toBe(413);
    expect(await response.json()).toEqual({
      error: {
        message: 'The file is larger than the limit of 2 MB.',
        type: 'invalid_request_error',
        param: 'file',
        code: 'file_too_large',
      },
    });
    expect(await keys(server.deps.blobs)).toEqual(before);
  });

  test('of exactly the limit is stored', async () => {
    expect((await upload('x'.repeat(2 * MIB))).bytes).toBe(2 * MIB);
  });

  test('that the client breaks off leaves nothing', async () => {
    const before = await keys(server.deps.blobs);
    const { port } = new URL(server.url);
    const request = httpRequest({
      port,
      host: '127.0.0.1',
      method: 'POST',
      path: '/v1/files',
      headers: {
        authorization: `Bearer ${server.key}`,
        'content-type': 'multipart/form-data; boundary=B',
        'content-length': MIB,
      },
    });
    request.on('error', () => undefined);
    request.write('--B\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n');
    request.write('x'.repeat(100_000));
    await new Promise(done => setTimeout(done, 200));
    request.destroy();
    await new Promise(done => setTimeout(done, 300));
    expect(await keys(server.deps.blobs)).toEqual(before);
    const { rows } = await server.database.pool.query(
      'select count(*)::int as n from files where bytes = 100000',
    );
    expect(rows[0].n).toBe(0);
  });
});

async function breakOff(body: Readable): Promise<void> {
  for await (const chunk of body) if (chunk.length > 0) break;
  throw new Error('connect ECONNREFUSED 10.0.0.1:9000');
}

function breakPipe(body: Readable): Promise<void> {
  const target = new Writable({ write: (_chunk, _encoding, done) => done(new Error('ENOSPC at 10.0.0.1')) });
  return pipeline(body, target);
}

test.each([
  ['stops listening', breakOff],
  ['breaks the pipe', breakPipe],
])('a store that %s in the middle of an upload is a 503, and nothing is listed', async (_, fail) => {
  const broken = await startServer({
    deps: deps => ({
      blobs: {
        ...deps.blobs,
        put: (_key, body) => fail(body as Readable).then(() => Promise.reject(new Error('not reached'))),
      },
    }),
  });
  try {
    const file = await toFile(Buffer.alloc(3 * MIB, 'x'), 'a.jsonl');
    const failure = await broken.client.files.create({ file, purpose: 'fine-tune' }).catch(error => error);
    expect(failure).toMatchObject({ status: 503, type: 'server_error', code: 'storage_unavailable' });
    expect(failure.message).not.toContain('10.0.0.1');
    expect((await broken.client.files.list()).data).toEqual([]);
  } finally {
    await broken.close();
  }
});

describe('list', () => {
  test('pages in both orders, filters by purpose, and the client iterates over all', async () => {
    const own = await startServer();
    try {
      const ids: string[] = [];
      for (let i = 0; i < 5; i++) {
        const file = await toFile(Buffer.from(`${i}`), `${i}.jsonl`);
        ids.push((await own.client.files.create({ file, purpose: i === 2 ? 'batch' : 'fine-tune' })).id);
      }
      const seen: string[] = [];
      for await (const file of own.client.files.list({ limit: 2 })) seen.push(file.id);
      expect(seen).toEqual([...ids].reverse());
      const first = await own.client.files.list({ limit: 3, order: 'asc' });
      expect(first.data.map(file => file.id)).toEqual(ids.slice(0, 3));
      expect(first.has_more).toBe(true);
      expect((first as unknown as { body: unknown }).body).toMatchObject({
        first_id: ids[0],
        last_id: ids[2],
      });
      const second = await own.client.files.list({ limit: 3, order: 'asc', after: ids[2]! });
      expect(second.data.map(file => file.id)).toEqual(ids.slice(3));
      expect(second.has_more).toBe(false);
      const batch = await own.client.files.list({ purpose: 'batch' });
      expect(batch.data.map(file => file.id)).toEqual([ids[2]]);
      expect((await own.client.files.list({ after: 'file-unknown' })).data).toEqual([]);
    } finally {
      await own.close();
    }
  });

  test.each([
    ['limit=0', /Expected a value >= 1, but got 0/],
    ['limit=x', /'limit'/],
    ['order=up', /'up'. Supported values are: 'asc', 'desc'/],
  ])('refuses ?%s', async (query, message) => {
    const response = await supertest(server.url)
      .get(`/v1/files?${query}`)
      .auth(server.key, { type: 'bearer' });
    expect(response.status).toBe(400);
    expect(response.body.error.message).toMatch(message);
  });
});

describe('content and delete', () => {
  test('gives the bytes back as they came', async () => {
    const bytes = Buffer.from('{"messages": "öäü €"}\n\r\n\0');
    const file = await upload(bytes, 'ünïcode "x".jsonl');
    const response = await server.client.files.content(file.id);
    expect(Buffer.from(await response.arrayBuffer())).toEqual(bytes);
    expect(response.headers.get('content-length')).toBe(String(bytes.length));
  });

  test('the longest name fits into the headers', async () => {
    const name = `${'€'.repeat(249)}.jsonl`;
    const response = await server.client.files.content((await upload(Buffer.from('{}'), name)).id);
    expect(response.headers.get('content-disposition')).toContain(encodeURIComponent(name));
  });

  test('deletes once, then the file is unknown and its bytes are gone', async () => {
    const file = await upload('x');
    expect(await server.client.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true });
    const expected = {
      status: 404,
      param: 'id',
      message: expect.stringContaining(`No such File object: ${file.id}`),
    };
    await expect(server.client.files.retrieve(file.id)).rejects.toMatchObject(expected);
    await expect(server.client.files.content(file.id)).rejects.toMatchObject(expected);
    await expect(server.client.files.delete(file.id)).rejects.toMatchObject(expected);
    expect(await keys(server.deps.blobs)).not.toContain(`files/${file.id}`);
  });

  test('the bytes stay for a job that has not ended', async () => {
    const file = await upload('x');
    await server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: file.id });
    await server.client.files.delete(file.id);
    await expect(server.client.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
    expect(await keys(server.deps.blobs)).toContain(`files/${file.id}`);
  });

  test("another project's file is unknown", async () => {
    const file = await upload('x');
    const { files } = server.otherClient;
    await expect(files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
    await expect(files.content(file.id)).rejects.toMatchObject({ status: 404 });
    await expect(files.delete(file.id)).rejects.toMatchObject({ status: 404 });
    expect((await files.list()).data).toEqual([]);
    expect((await server.client.files.retrieve(file.id)).id).toBe(file.id);
  });

  test('an expired file is unknown', async () => {
    const file = await upload('x');
    await server.database.pool.query(
      `update files set expires_at = now() - interval '1 second' where id = $1`,
      [file.id],
    );
    await expect(server.client.files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
    expect((await server.client.files.list()).data.map(one => one.id)).not.toContain(file.id);
  });
});

test('a file for a batch goes after 30 days, unless it is said otherwise', async () => {
  const create = async (extra: object = {}) => {
    const file = new File(['{}\n'], 'in.jsonl');
    const made = await server.client.files.create({ file, purpose: 'batch', ...extra });
    return made.expires_at! - made.created_at;
  };
  expect(await create()).toBe(30 * 24 * 3600);
  expect(await create({ expires_after: { anchor: 'created_at', seconds: 3600 } })).toBe(3600);
});
