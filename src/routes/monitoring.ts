// What the api tells of itself: GET /metrics for Prometheus, which is there only when a token is set and only for who has
// it, and spans for OpenTelemetry, where a collector is named.
import type { FastifyInstance } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { addApiMetrics } from '../monitoring/api-metrics.ts';
import { isAllowed, openMonitoring } from '../monitoring/monitoring.ts';
import { traceRequests } from '../monitoring/request-spans.ts';

export function monitoringRoutes(app: FastifyInstance, deps: Deps): void {
  const { metricsToken: token, otlpEndpoint } = deps.config;
  if (otlpEndpoint) traceRequests(app);
  if (token === null) return;
  const monitoring = openMonitoring();
  addApiMetrics(app, deps, monitoring);
  app.get('/metrics', { schema: { hide: true } }, async (request, reply) => {
    if (!isAllowed(request.headers.authorization, token))
      throw new ApiError('invalid_api_key', 'Incorrect token: /metrics needs that of ANNEAL_METRICS_TOKEN.');
    reply.type(monitoring.registry.contentType);
    return monitoring.write();
  });
}
