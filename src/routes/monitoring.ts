// GET /metrics: what the api does, for Prometheus. There only when a token is set, and only for who has it.
import type { FastifyInstance } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { addApiMetrics } from '../monitoring/api-metrics.ts';
import { isAllowed, openMonitoring } from '../monitoring/monitoring.ts';

export function monitoringRoutes(app: FastifyInstance, deps: Deps): void {
  const { metricsToken: token } = deps.config;
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
