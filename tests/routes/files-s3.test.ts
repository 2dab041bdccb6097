// Uploads with a real S3 server behind the api, also one that goes down in the middle.
import { Readable } from 'node:stream';
import { toFile } from 'openai';
import supertest from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type S3Server, startS3 } from '../support/s3.ts';
import { startServer, type TestServer } from '../support/server.ts';

let s3: S3Server;
let server: TestServer & { close(): Promise<void> };

beforeAll(async () => {
  s3 = await startS3();
  const { bucket, endpoint, region, credentials } = s3.settings;
  server = await startServer({
    environment: {
      S3_BUCKET: bucket,
      S3_REGION: region,
      ...(endpoint && { S3_ENDPOINT: endpoint }),
      ...(credentials && {
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      }),
    },
  });
}, 600_000);

afterAll(async () => {
  await server?.close();
  await s3?.stop();
});

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of server.deps.blobs.list('files/')) found.push(key);
  return found;
}

test('a file of several parts comes back as it was sent', async () => {
  const bytes = Buffer.alloc(12 * 2 ** 20, 'a line of text\n');
  const file = await server.client.files.create({
    file: await toFile(bytes, 'train.jsonl'),
    purpose: 'fine-tune',
  });
  expect(file.bytes).toBe(bytes.length);
  const back = Buffer.from(await (await server.client.files.content(file.id)).arrayBuffer());
  expect(back.equals(bytes)).toBe(true);
  await server.client.files.delete(file.id);
  expect(await keys()).toEqual([]);
});

test('the store goes down in the middle: a 5xx in the usual shape, nothing half-written, and the next upload works', async context => {
  if (!s3.kill || !s3.restart) return context.skip();
  async function* form() {
    yield '--B\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n';
    for (let part = 0; part < 24; part++) {
      if (part === 12) await s3.kill!();
      yield 'x'.repeat(2 ** 20);
    }
    yield '\r\n--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--B--\r\n';
  }
  const response = await fetch(`${server.url}/v1/files`, {
    method: 'POST',
    headers: { authorization: `Bearer ${server.key}`, 'content-type': 'multipart/form-data; boundary=B' },
    body: Readable.toWeb(Readable.from(form())) as ReadableStream,
    duplex: 'half',
  } as RequestInit);
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({
    error: { type: 'server_error', code: 'storage_unavailable', param: null },
  });
  expect((await supertest(server.url).get('/readyz')).body.checks).toMatchObject({
    database: 'ok',
    queue: 'ok',
    object_store: expect.stringMatching(/ECONNREFUSED|no answer/),
  });

  await s3.restart();
  expect((await server.client.files.list()).data).toEqual([]);
  expect(await keys()).toEqual([]);
  const file = await server.client.files.create({
    file: await toFile(Buffer.from('x'), 'a.jsonl'),
    purpose: 'fine-tune',
  });
  expect(await keys()).toEqual([`files/${file.id}`]);
}, 120_000);

test('parts of an upload are joined', async () => {
  const parts = ['a line\n', 'b line\n'].map(line => Buffer.alloc(6 * 2 ** 20, line));
  const upload = await server.client.uploads.create({
    filename: 'train.jsonl',
    purpose: 'fine-tune',
    bytes: 12 * 2 ** 20,
    mime_type: 'text/jsonl',
  });
  const stored = await Promise.all(
    parts.map(async part =>
      server.client.uploads.parts.create(upload.id, { data: await toFile(part, 'part') }),
    ),
  );
  const { file } = await server.client.uploads.complete(upload.id, { part_ids: stored.map(({ id }) => id) });
  const back = Buffer.from(await (await server.client.files.content(file!.id)).arrayBuffer());
  expect(back.equals(Buffer.concat(parts))).toBe(true);
  await server.client.files.delete(file!.id);
  expect(await keys()).not.toContain(`files/${file!.id}`);
});
