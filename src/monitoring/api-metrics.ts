// Prometheus metrics of an api: requests by route, tokens, and the jobs in the database.
import { Counter, Gauge, Histogram } from '@prometheus-io/client';
import type { FastifyInstance } from 'fastify';
import type { Deps } from '../deps.ts';
import { countJobs } from '../store/job-counts.ts';
import { listRunners } from '../store/runners.ts';
import type { Monitoring } from './monitoring.ts';

/** In seconds: reads take milliseconds, generations seconds, event streams as long as they are open. */
const DURATIONS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** Status for a client that disconnected before the end of the response, as in nginx. */
const BROKEN_OFF = 499;

export function addApiMetrics(app: FastifyInstance, deps: Deps, monitoring: Monitoring): void {
  addRequests(app, monitoring);
  addTokens(deps, monitoring);
  addJobs(deps, monitoring);
}

function addRequests(app: FastifyInstance, { registry }: Monitoring): void {
  const seconds = new Histogram({
    name: 'anneal_http_request_duration_seconds',
    help: 'From the beginning of a request to the end of its answer, by route (not path) and status.',
    labelNames: ['method', 'route', 'status'],
    buckets: DURATIONS,
    registers: [registry],
  });
  const running = new Gauge({
    name: 'anneal_http_requests_in_progress',
    help: 'Requests that are being answered.',
    registers: [registry],
  });
  app.addHook('onRequest', async (request, reply) => {
    const { method } = request;
    running.inc();
    // not onResponse, which is not called for interrupted responses
    reply.raw.once('close', () => {
      running.dec();
      const route = request.routeOptions.url ?? 'unknown';
      const status = reply.raw.writableFinished ? reply.statusCode : BROKEN_OFF;
      seconds.observe({ method, route, status }, reply.elapsedTime / 1000);
    });
  });
}

function addTokens({ usage }: Deps, { registry, beforeWriting }: Monitoring): void {
  const counter = (name: string, help: string) =>
    new Counter({ name, help, labelNames: ['kind'], registers: [registry] });
  const counters = {
    requests: counter('anneal_model_requests_total', 'Requests for answers of models.'),
    inputTokens: counter('anneal_input_tokens_total', 'Tokens that models have read.'),
    outputTokens: counter('anneal_output_tokens_total', 'Tokens that models have written.'),
  };
  beforeWriting(() => {
    for (const { kind, ...totals } of usage.totals()) {
      for (const name of ['requests', 'inputTokens', 'outputTokens'] as const) {
        counters[name].remove({ kind });
        counters[name].inc({ kind }, totals[name]);
      }
    }
  });
}

/** The same in every api, since they are read from the database. */
function addJobs({ pool, log }: Deps, { registry, beforeWriting }: Monitoring): void {
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const jobs = gauge('anneal_jobs', 'Fine-tuning jobs; the same from every api.', ['status']);
  const waiting = gauge('anneal_jobs_waiting', 'Jobs that wait for a worker; the same from every api.');
  const oldest = gauge('anneal_jobs_waiting_oldest_seconds', 'Age of the oldest of them.');
  const workers = gauge('anneal_workers', 'Workers that are alive; the same from every api.');
  const up = gauge(
    'anneal_database_up',
    'Whether the database answers; if not, the numbers of jobs are old.',
  );
  beforeWriting(async () => {
    try {
      const counts = await countJobs(pool);
      jobs.reset();
      for (const { status, jobs: count } of counts.byStatus) jobs.set({ status }, count);
      waiting.set(counts.waiting);
      oldest.set(counts.oldestWaitingSeconds);
      workers.set((await listRunners(pool)).length);
      up.set(1);
    } catch (error) {
      log.warn({ error }, 'jobs could not be counted');
      up.set(0);
    }
  });
}
