// /v1/fine_tuning/jobs/{id}/events: the events of a job, in pages or as a live stream.
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { errorResponses } from '../schemas/errors.ts';
import { eventToWire, exampleEvent, ListEventsQuery } from '../schemas/events.ts';
import { JobId } from '../schemas/jobs.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import * as store from '../store/events.ts';
import { findJob as readJob, TERMINAL_STATUSES } from '../store/jobs.ts';
import { endOf } from './generation.ts';
import { findJob } from './jobs.ts';

const BATCH = 200;
/** Interval of keep-alive comments, which keep proxies from closing the stream, and of polling for lost notifications. */
const QUIET_MS = 15_000;

export function eventRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Params: JobId; Querystring: ListEventsQuery }>(
    '/v1/fine_tuning/jobs/:fine_tuning_job_id/events',
    {
      schema: {
        operationId: 'listFineTuningEvents',
        tags: ['Fine-tuning'],
        summary: 'List or follow events',
        description: 'Events of a job, newest first; with `stream=true` a live stream, oldest first.',
        params: JobId,
        querystring: ListEventsQuery,
        response: {
          200: {
            description: 'A page of events, or the stream.',
            content: {
              'application/json': {
                schema: Type.Ref('ListFineTuningJobEventsResponse'),
                example: exampleList(exampleEvent),
              },
              // one event of the stream, whose last is `[DONE]`
              'text/event-stream': { schema: Type.Ref('FineTuningJobEvent'), example: exampleEvent },
            },
          },
          ...errorResponses(404),
        },
      },
    },
    async (request, reply) => {
      const job = await findJob(deps, request);
      const { after, limit, stream } = request.query;
      if (!stream)
        return toWireList(await store.listEvents(deps.pool, job.id, { after, limit }), eventToWire);

      // the header takes precedence: a client that reconnects sends it with its original URL
      const from = lastEventId(request.headers['last-event-id']) ?? after;
      const start = (from && (await store.findEventSequence(deps.pool, job.id, from))) || 0;
      const signal = endOf(app, reply);
      reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no').type('text/event-stream');
      return reply.send(Readable.from(followEvents(deps, job, start, signal), { objectMode: false }));
    },
  );
}

function lastEventId(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : undefined;
}

/** All events after a sequence, until the job has ended. They are read as the client takes them, so a slow reader costs no memory. */
async function* followEvents(
  deps: Deps,
  job: { id: string; projectId: string },
  start: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const bell = createBell(signal);
  const unsubscribe = deps.events.subscribe(job.id, bell.ring);
  let sequence = start;
  try {
    while (!signal.aborted) {
      // The status is read before the events: if the job has ended, all of its events are then visible.
      const status = (await readJob(deps.pool, job.projectId, job.id))?.status ?? 'cancelled';
      const events = await store.readEventsAfter(deps.pool, job.id, sequence, BATCH);
      for (const event of events) {
        yield `id: ${event.id}\ndata: ${JSON.stringify(eventToWire(event))}\n\n`;
        sequence = event.sequence;
      }
      if (events.length > 0) continue;
      if (TERMINAL_STATUSES.includes(status)) return yield 'data: [DONE]\n\n';
      if (!(await bell.wait(QUIET_MS)) && !signal.aborted) yield ': still here\n\n';
    }
  } finally {
    unsubscribe();
  }
}

/** A ring while nobody waits is not lost. `wait` resolves to whether it rang before the timeout. */
function createBell(signal: AbortSignal) {
  let rung = false;
  let wake: (() => void) | null = null;
  const ring = () => {
    rung = true;
    wake?.();
  };
  signal.addEventListener('abort', ring);
  return {
    ring,
    async wait(timeoutMs: number): Promise<boolean> {
      if (!rung) {
        await new Promise<void>(done => {
          const timer = setTimeout(done, timeoutMs);
          wake = () => {
            clearTimeout(timer);
            done();
          };
        });
        wake = null;
      }
      const result = rung;
      rung = false;
      return result;
    },
  };
}
