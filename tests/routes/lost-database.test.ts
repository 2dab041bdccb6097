// A database that is cut off from the api, or that takes requests and answers none: clients are told to come again, and are served when it
// is back. What workers do meanwhile is tests/queue/failures.test.ts'.
import { afterAll, afterEach, expect, inject, test } from 'vitest';
import { openPool } from '../../src/store/database.ts';
import { openProxy, throughPort } from '../support/proxy.ts';
import { useServer } from '../support/server.ts';

const proxy = await openProxy(Number(new URL(inject('serverUrl')).port));

function poolThroughProxy(databaseUrl: string, log: Parameters<typeof openPool>[1]) {
  const url = new URL(throughPort(databaseUrl, proxy.port));
  // Instead of a minute.
  url.searchParams.set('query_timeout', '300');
  return openPool(url.href, log);
}

let pool: ReturnType<typeof openPool>;
const server = useServer({
  deps({ config, log }) {
    pool = poolThroughProxy(config.databaseUrl!, log);
    return { pool };
  },
});
afterEach(() => {
  proxy.restore();
  proxy.thaw();
});
afterAll(async () => {
  await pool.end();
  await proxy.close();
});

const UPLOAD = {
  purpose: 'fine-tune',
  filename: 'a.jsonl',
  bytes: 10,
  mime_type: 'application/jsonl',
} as const;

/** One that reads, and one that has a transaction. */
const REQUESTS = {
  'a list': () => server.client.files.list(),
  'an upload': () => server.client.uploads.create(UPLOAD, { idempotencyKey: 'again' }),
};

const LOSSES = { 'is cut off': () => proxy.cut(), 'does not answer': () => proxy.freeze() };

test.each(Object.keys(LOSSES).flatMap(loss => Object.keys(REQUESTS).map(request => [loss, request])))(
  'while the database %s, %s is a 503 that says when to come again',
  async (loss, request) => {
    const ask = REQUESTS[request as keyof typeof REQUESTS];
    await server.client.files.list(); // a session that is there when it happens
    LOSSES[loss as keyof typeof LOSSES]();
    const refusal = await ask().then(
      () => null,
      error => error,
    );
    expect(refusal).toMatchObject({
      status: 503,
      type: 'server_error',
      code: 'storage_unavailable',
      message: '503 The database or the object store does not answer. Please try again in a moment.',
    });
    expect(Number(refusal.headers.get('retry-after'))).toBeGreaterThan(0);
    proxy.restore();
    proxy.thaw();
    await ask();
  },
);
