// Spans of requests as a collector gets them.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { openTelemetry, type Telemetry } from '../../src/monitoring/open-telemetry.ts';
import { openTrainingSpans } from '../../src/monitoring/training-spans.ts';
import type { TrainerEvent } from '../../src/training/protocol.ts';
import { startServer, type TestServer } from '../support/server.ts';

interface Span {
  name: string;
  traceId: string;
  parentSpanId?: string;
  attributes: { key: string; value: Record<string, unknown> }[];
  events?: { name: string }[];
}

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';

const received: { path: string; body: string }[] = [];
let collector: Server;
let telemetry: Telemetry;
let server: TestServer & { close(): Promise<void> };

beforeAll(async () => {
  collector = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    received.push({ path: request.url!, body });
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  }).listen(0, '127.0.0.1');
  await new Promise(done => collector.once('listening', done));
  const url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = url;
  process.env.OTEL_EXPORTER_OTLP_PROTOCOL = 'http/json';
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: url };
  telemetry = (await openTelemetry(readConfig(environment), 'api'))!;
  server = await startServer({ environment });
});
afterAll(async () => {
  await server.close();
  collector.close();
});

const spansOf = (): Span[] =>
  received
    .filter(({ path }) => path === '/v1/traces')
    .flatMap(({ body }) => JSON.parse(body).resourceSpans)
    .flatMap(resource => resource.scopeSpans)
    .flatMap(scope => scope.spans);

const attributesOf = ({ attributes }: Span) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

test('without a collector nothing is opened', async () => {
  expect(await openTelemetry(readConfig({}), 'api')).toBeNull();
});

test('requests are spans by route, within the trace of who asked; runs are spans with their job', async () => {
  const headers = {
    authorization: `Bearer ${server.key}`,
    traceparent: `00-${TRACE}-${PARENT}-01`,
  };
  await (await fetch(`${server.url}/v1/files/file-x`, { headers })).text();
  await (await fetch(`${server.url}/v1/models`)).text();
  async function* say(): AsyncGenerator<TrainerEvent[]> {
    yield [{ type: 'checkpoint', kind: 'model', step: 3, epoch: 1, directory: '', metrics: {} as never }];
  }
  for await (const _ of openTrainingSpans().follow(say(), { jobId: 'ftjob-a', attempt: 2 }));
  await new Promise(done => setTimeout(done, 300)); // a span ends when its connection has the answer
  await telemetry.close();

  const spans = spansOf();
  const file = spans.find(span => span.name === 'GET /v1/files/:file_id')!;
  expect(file).toMatchObject({ traceId: TRACE, parentSpanId: PARENT });
  expect(attributesOf(file)).toMatchObject({
    'http.request.method': 'GET',
    'http.route': '/v1/files/:file_id',
    'http.response.status_code': 404,
  });
  expect(JSON.stringify(spans)).not.toContain('file-x');
  const models = spans.find(span => span.name === 'GET /v1/models')!;
  expect(models.traceId).not.toBe(TRACE);
  const run = spans.find(span => span.name === 'training run')!;
  expect(attributesOf(run)).toMatchObject({ 'anneal.job.id': 'ftjob-a', 'anneal.job.attempt': 2 });
  expect(run.events).toMatchObject([{ name: 'checkpoint' }]);

  const metrics = received.filter(({ path }) => path === '/v1/metrics').map(({ body }) => body);
  expect(metrics.join()).toContain('http.server.request.duration');
  expect(received[0]!.body).toContain('anneal-api');
});
