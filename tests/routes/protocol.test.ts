// What holds for every route: keys, errors, headers, empty bodies, the log.
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import OpenAI from 'openai';
import supertest from 'supertest';
import { describe, expect, test } from 'vitest';
import { openLog } from '../../src/log.ts';
import { revokeApiKey } from '../../src/store/api-keys.ts';
import { startServer, useServer } from '../support/server.ts';

const server = useServer();
const get = (path: string) => supertest(server.url).get(path);

describe('keys', () => {
  test('none: 401 in the words that clients know', async () => {
    const response = await get('/v1/files');
    expect(response.status).toBe(401);
    expect(response.body.error).toMatchObject({ type: 'invalid_request_error', param: null, code: null });
    expect(response.body.error.message).toMatch(/^You didn't provide an API key/);
  });

  test('a wrong one: 401, and it is not repeated', async () => {
    const client = new OpenAI({ apiKey: 'sk-wrong-0123456789abcdef', baseURL: `${server.url}/v1` });
    const failure = await client.models.list().catch(error => error);
    expect(failure).toBeInstanceOf(OpenAI.AuthenticationError);
    expect(failure.code).toBe('invalid_api_key');
    expect(failure.message).toContain('Incorrect API key provided: sk-wro***cdef');
  });

  test('are stored as hashes only, note their use, and end when revoked', async () => {
    await get('/v1/files').auth(server.key, { type: 'bearer' }).expect(200);
    const { rows } = await server.database.pool.query(
      'select * from api_keys where last_used_at is not null',
    );
    expect(rows).toHaveLength(1);
    expect(JSON.stringify(rows)).not.toContain(server.key);
    const own = await startServer();
    const keys = await own.database.pool.query('select id from api_keys');
    for (const { id } of keys.rows) await revokeApiKey(own.database.pool, id);
    await supertest(own.url).get('/v1/files').auth(own.key, { type: 'bearer' }).expect(401);
    await own.close();
  });

  test.each(['Basic abc', 'Bearer', 'Bearer  ', 'sk-123'])('%s is none', async authorization => {
    await get('/v1/files').set('authorization', authorization).expect(401);
  });
});

describe('errors have one shape', () => {
  /** What comes back for bytes that are no request. */
  async function answerTo(bytes: string): Promise<{ status: string; body: unknown }> {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.write(bytes);
    const answer = Buffer.concat(await socket.toArray()).toString();
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    return { status: head.split('\r\n')[0]!, body: JSON.parse(body) };
  }
  const refusal = (message: string) => ({
    error: { message, type: 'invalid_request_error', param: null, code: null },
  });

  test('what is no HTTP, and an address that is too long', async () => {
    const unparsed = refusal('We could not parse your HTTP request.');
    expect(await answerTo('\0 garbage\r\n\r\n')).toEqual({
      status: 'HTTP/1.1 400 Bad Request',
      body: unparsed,
    });
    const both = 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    expect(await answerTo(`POST /v1/files HTTP/1.1\r\nHost: x\r\n${both}`)).toMatchObject({ body: unparsed });
    expect(await answerTo(`GET /v1/files/${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`)).toEqual({
      status: 'HTTP/1.1 431 Request Header Fields Too Large',
      body: refusal('The address and headers of the request are larger than 16384 bytes.'),
    });
  });

  test('a body that is compressed', async () => {
    const response = await supertest(server.url)
      .post('/v1/chat/completions')
      .auth(server.key, { type: 'bearer' })
      .set({ 'content-type': 'application/json', 'content-encoding': 'gzip' })
      .send('{}');
    expect(response.status).toBe(415);
    expect(response.body).toEqual(refusal('Content-Encoding gzip is not supported: send the body as it is.'));
  });

  const authorized = (method: 'get' | 'post' | 'put' | 'delete', path: string) =>
    supertest(server.url)[method](path).auth(server.key, { type: 'bearer' });
  const shape = {
    error: {
      message: expect.any(String),
      type: 'invalid_request_error',
      param: null,
      code: expect.anything(),
    },
  };

  test('an unknown path, with and without a key', async () => {
    for (const request of [authorized('get', '/v1/_stainless_unknown_path?x=1'), get('/nowhere')]) {
      const response = await request;
      expect(response.status).toBe(404);
      expect(response.body).toEqual(shape);
    }
    expect((await authorized('put', '/v1/files')).body.error.message).toBe('Invalid URL (PUT /v1/files)');
  });

  test('JSON that does not parse', async () => {
    const response = await authorized('post', '/v1/fine_tuning/jobs')
      .set('content-type', 'application/json')
      .send('{"model": ');
    expect(response.status).toBe(400);
    expect(response.body.error).toMatchObject({ type: 'invalid_request_error', param: null, code: null });
    expect(response.body.error.message).toMatch(/^We could not parse the JSON body of your request/);
  });

  test('__proto__ in JSON', async () => {
    const response = await authorized('post', '/v1/fine_tuning/jobs')
      .set('content-type', 'application/json')
      .send('{"__proto__": {"model": "x"}}');
    expect(response.status).toBe(400);
  });

  test.each(['form', 'text/plain'])('another content type: %s', async type => {
    const response = await authorized('post', '/v1/fine_tuning/jobs').type(type).send('{"model": "x"}');
    expect(response.status).toBe(415);
    expect(response.body.error.message).toMatch(/application\/json/);
  });

  test('a body that is no object', async () => {
    const response = await authorized('post', '/v1/fine_tuning/jobs').send([]);
    expect(response.body.error).toMatchObject({
      param: null,
      message: 'Invalid type for the body: expected an object, but got an array instead.',
    });
  });

  test('a body that is too large', async () => {
    const response = await authorized('post', '/v1/fine_tuning/jobs').send({
      model: 'x'.repeat(33 * 2 ** 20),
    });
    expect(response.status).toBe(413);
    expect(response.body.error.type).toBe('invalid_request_error');
  });

  test('a path value that is too long, or badly encoded', async () => {
    expect((await authorized('get', `/v1/models/${'x'.repeat(600)}`)).body.error.type).toBe(
      'invalid_request_error',
    );
    const response = await authorized('get', '/v1/models/%ff');
    expect([response.status, response.body.error.type]).toEqual([400, 'invalid_request_error']);
  });

  test('texts that Postgres cannot hold', async () => {
    const job = { model: 'test-base', training_file: 'file-x' };
    const bad: [string, unknown][] = [
      ['NUL in a name', { ...job, model: 'a\0b' }],
      ['NUL in metadata', { ...job, metadata: { a: '\0' } }],
      ['half a pair in metadata', { ...job, metadata: { a: '\ud800' } }],
    ];
    const { rows } = await server.database.pool.query(
      `insert into files (id, project_id, purpose, filename, bytes, sha256, blob_key, status)
       values ('file-x', $1, 'fine-tune', 'a.jsonl', 0, '', '', 'processed') returning id`,
      [server.projectId],
    );
    expect(rows).toHaveLength(1);
    for (const [name, body] of bad) {
      const response = await authorized('post', '/v1/fine_tuning/jobs').send(body as object);
      expect([name, response.status]).toEqual([name, 400]);
    }
    for (const path of [
      '/v1/models/%00',
      '/v1/files/a%00',
      '/v1/files?after=%00',
      '/v1/fine_tuning/jobs?metadata[a]=%00',
    ]) {
      expect([path, (await authorized('get', path)).status]).toEqual([path, 400]);
    }
  });

  test('a fault of ours: 500 without its reason, which is in the log', async () => {
    const lines: string[] = [];
    const sink = new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk));
        done();
      },
    });
    const broken = await startServer({
      deps: () => ({
        pool: { query: () => Promise.reject(new Error('relation is secret')) } as never,
        log: openLog({ level: 'info', process: 'test' }, sink),
      }),
    });
    const response = await supertest(broken.url).get('/v1/models').auth('sk-anything', { type: 'bearer' });
    expect(response.status).toBe(500);
    expect(response.body.error).toEqual({
      message: 'The server had an error while processing your request. Sorry about that!',
      type: 'server_error',
      param: null,
      code: null,
    });
    const logged = lines.find(line => line.includes('relation is secret'))!;
    expect(JSON.parse(logged)).toMatchObject({ level: 'error', request: response.headers['x-request-id'] });
    expect(lines.join('')).not.toContain('sk-anything');
    await broken.close();
  });
});

test('every answer carries its request id and OpenAI headers', async () => {
  const models = await server.client.models.list();
  const { data, response, request_id } = await server.client.models.list().withResponse();
  expect(data.data).toEqual(models.data);
  expect(request_id).toMatch(/^req_[A-Za-z0-9]{24}$/);
  expect(response.headers.get('openai-version')).toBe('2020-10-01');
  expect(response.headers.get('openai-processing-ms')).toMatch(/^\d+$/);
  expect(response.headers.get('openai-organization')).toMatch(/^org-/);
  const failure = await server.client.models.retrieve('none').catch(error => error);
  expect(failure.requestID).toMatch(/^req_/);
});

test('DELETE with a JSON content type and no body, as the Python client sends it', async () => {
  const response = await supertest(server.url)
    .delete('/v1/files/file-none')
    .auth(server.key, { type: 'bearer' })
    .set('content-type', 'application/json');
  expect(response.status).toBe(404);
});

describe('health', () => {
  test('/healthz and /readyz need no key', async () => {
    await get('/healthz').expect(200, { status: 'ok', version: '0.1.0' });
    await get('/readyz').expect(200, {
      status: 'ready',
      checks: { database: 'ok', object_store: 'ok', queue: 'ok' },
    });
  });

  test('/readyz names what does not answer', async () => {
    const broken = await startServer({
      deps: deps => ({ blobs: { ...deps.blobs, check: () => Promise.reject(new Error('bucket is gone')) } }),
    });
    await broken.database.pool.query('delete from migrations');
    await broken.database.pool.query('drop schema pgboss cascade');
    const response = await supertest(broken.url).get('/readyz');
    expect(response.status).toBe(503);
    expect(response.body).toEqual({
      status: 'unavailable',
      checks: {
        database: expect.stringMatching(/0001-initial.sql.*migrate/),
        object_store: 'bucket is gone',
        queue: expect.stringMatching(/pgboss/),
      },
    });
    await supertest(broken.url).get('/healthz').expect(200);
    await broken.close();
  });
});

test('the documentation is served from here alone, and where a browser looks first', async () => {
  await get('/').expect(302).expect('location', '/docs');
  const page = await get('/docs/').expect(200);
  expect(page.text).toContain('swagger-ui');
  expect(page.text).toContain('<title>Anneal</title>');
  expect(page.text).not.toMatch(/(src|href)="https?:/);
  const document = await get('/openapi.json').expect(200);
  expect(document.body.openapi).toBe('3.1.0');
});
