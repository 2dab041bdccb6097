// Spans of requests, and what Prometheus would be told, as a collector gets them.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { openMonitoring } from '../../src/monitoring/monitoring.ts';
import { observeMetrics } from '../../src/monitoring/observed-metrics.ts';
import { openTelemetry, type Telemetry } from '../../src/monitoring/open-telemetry.ts';
import { openTrainingSpans } from '../../src/monitoring/training-spans.ts';
import { addTrainingMetrics, combineMetrics } from '../../src/monitoring/worker-metrics.ts';
import { insertJob } from '../../src/store/jobs.ts';
import type { TrainerEvent } from '../../src/training/protocol.ts';
import { BASE_MODEL, startServer, type TestServer } from '../support/server.ts';

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

interface Point {
  attributes: { key: string; value: Record<string, unknown> }[];
  count?: number;
  asDouble?: number;
  asInt?: number;
}

interface Metric {
  name: string;
  gauge?: { dataPoints: Point[] };
  sum?: { dataPoints: Point[] };
  histogram?: { dataPoints: Point[] };
}

/** By name: the points of the last collection, with their attributes. */
function measured() {
  const metrics: Metric[] = received
    .filter(({ path }) => path === '/v1/metrics')
    .flatMap(({ body }) => JSON.parse(body).resourceMetrics)
    .flatMap(resource => resource.scopeMetrics)
    .flatMap(scope => scope.metrics);
  return new Map(
    metrics.map(({ name, gauge, sum, histogram }) => {
      const points = (gauge ?? sum ?? histogram)!.dataPoints;
      return [name, points.map(point => ({ ...attributesOf(point), ...numberOf(point) }))];
    }),
  );
}

const numberOf = ({ asDouble, asInt, count }: Point) =>
  count === undefined ? { value: asDouble ?? asInt } : { count };

const step = (number: number, trainedTokens: number) =>
  ({ type: 'step', metrics: { step: number }, trainedTokens, seconds: 0.1 }) as TrainerEvent;

const attributesOf = ({ attributes }: Pick<Span, 'attributes'>) =>
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
  const { pool, usage } = server.deps;
  const job = { projectId: server.projectId, apiKeyId: null, model: BASE_MODEL, trainingFile: 'file-a' };
  const rest = { validationFile: null, suffix: null, seed: 1, metadata: null };
  await insertJob(pool, {
    ...job,
    ...rest,
    method: { type: 'supervised', supervised: { hyperparameters: {} } },
  });
  const labels = {
    kind: 'completions',
    projectId: server.projectId,
    apiKeyId: 'k',
    model: 'm',
    batch: false,
  } as const;
  usage.record(labels, { requests: 1, inputTokens: 30, cachedTokens: 0, outputTokens: 4 });
  async function* say(): AsyncGenerator<TrainerEvent[]> {
    yield [step(1, 10), step(2, 25)];
    yield [{ type: 'checkpoint', kind: 'model', step: 3, epoch: 1, directory: '', metrics: {} as never }];
  }
  const worker = openMonitoring();
  const watching = combineMetrics([openTrainingSpans(), addTrainingMetrics(worker)])!;
  observeMetrics(worker);
  for await (const _ of watching.follow(say(), { jobId: 'ftjob-a', attempt: 2 }));
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

  const values = measured();
  expect(values.get('http.server.request.duration')).toBeDefined();
  expect(values.get('anneal.training.step.duration')).toMatchObject([{ count: 2 }]);
  expect(values.get('anneal_jobs')).toContainEqual({ status: 'validating_files', value: 1 });
  expect(values.get('anneal_jobs_waiting')).toEqual([{ value: 1 }]);
  expect(values.get('anneal_input_tokens_total')).toEqual([{ kind: 'completions', value: 30 }]);
  expect(values.get('anneal_trained_tokens_total')).toEqual([{ value: 25 }]);
  expect(received[0]!.body).toContain('anneal-api');
});
