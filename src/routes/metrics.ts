// /v1/fine_tuning/jobs/{id}/metrics: the metrics of each step, in pages or as CSV.
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { JobId } from '../schemas/jobs.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import {
  csvHeader,
  csvLine,
  exampleStep,
  ListMetricsQuery,
  metricNamesOf,
  stepOfId,
  stepToWire,
} from '../schemas/metrics.ts';
import { listSteps } from '../store/metrics.ts';
import { findJob } from './jobs.ts';

const CSV_PAGE = 1000;
const exampleNames = metricNamesOf('supervised');

export function metricRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Params: JobId; Querystring: ListMetricsQuery }>(
    '/v1/fine_tuning/jobs/:fine_tuning_job_id/metrics',
    {
      schema: {
        operationId: 'listFineTuningJobMetrics',
        tags: ['Fine-tuning'],
        summary: 'List metrics',
        description: 'Metrics of every step so far, from the first step on.',
        params: JobId,
        querystring: ListMetricsQuery,
        response: {
          200: {
            description: 'A page of steps, or all of them as CSV.',
            content: {
              ...json('', Type.Ref('ListFineTuningJobMetricsResponse'), exampleList(exampleStep)).content,
              'text/csv': {
                schema: Type.String(),
                example:
                  csvHeader(exampleNames) + csvLine({ step: 10, metrics: exampleStep.metrics }, exampleNames),
              },
            },
          },
          ...errorResponses(404),
        },
      },
    },
    async (request, reply) => {
      const { id, method } = await findJob(deps, request);
      const { format, after, limit, order } = request.query;
      if (format === 'csv') {
        reply.type('text/csv; charset=utf-8');
        reply.header('content-disposition', `attachment; filename="${id}-metrics.csv"`);
        return reply.send(Readable.from(csvOf(deps, id, metricNamesOf(method.type))));
      }
      const step = after === undefined ? null : stepOfId(after);
      const unknown = after !== undefined && step === null;
      const page = unknown
        ? { rows: [], hasMore: false }
        : await listSteps(deps.pool, id, { limit, after: step, order });
      return toWireList(page, row => stepToWire(id, row));
    },
  );
}

/** Reads page by page, since a long run has many steps. */
async function* csvOf(deps: Deps, jobId: string, names: readonly string[]): AsyncGenerator<string> {
  yield csvHeader(names);
  let after: number | null = null;
  for (let more = true; more; ) {
    const page = await listSteps(deps.pool, jobId, { limit: CSV_PAGE, after, order: 'asc' });
    if (page.rows.length > 0) yield page.rows.map(row => csvLine(row, names)).join('');
    after = page.rows.at(-1)?.step ?? after;
    more = page.hasMore;
  }
}
