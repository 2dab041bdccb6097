// A span and a duration for each request, by OpenTelemetry's semantic conventions for HTTP servers. Continues the client's trace
// (`traceparent`). Records routes instead of paths, which contain ids.
import { context, metrics, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

export function traceRequests(app: FastifyInstance): void {
  const tracer = trace.getTracer('anneal');
  const durations = metrics.getMeter('anneal').createHistogram('http.server.request.duration', { unit: 's' });
  app.addHook('onRequest', (request, reply, done) => {
    const parent = propagation.extract(context.active(), request.headers);
    const attributes = attributesOf(request);
    const name = `${request.method} ${attributes['http.route']}`;
    const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent);
    reply.raw.once('close', () => {
      const end = endOf(reply);
      span.setAttributes(end);
      if (reply.statusCode >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
      durations.record(reply.elapsedTime / 1000, { ...attributes, ...end });
    });
    context.with(trace.setSpan(parent, span), done);
  });
}

const attributesOf = (request: FastifyRequest) => ({
  'http.request.method': request.method,
  'http.route': request.routeOptions.url ?? 'unknown',
  'url.scheme': request.protocol,
});

/** Interrupted responses have an error type, as the conventions require. */
const endOf = ({ raw, statusCode }: FastifyReply) => ({
  'http.response.status_code': statusCode,
  ...(raw.writableFinished ? {} : { 'error.type': 'client_closed_request' }),
  ...(statusCode >= 500 ? { 'error.type': String(statusCode) } : {}),
});
