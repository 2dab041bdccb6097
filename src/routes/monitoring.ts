// What the api tells of itself: GET /metrics for Prometheus, which is there only when a token is set and only for who has
// it, and spans and the same numbers for OpenTelemetry, where a collector is named.
import type { FastifyInstance } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';

/** Loads what is asked for, and nothing else: Prometheus' client alone is 20 MB of memory. */
export async function monitoringRoutes(app: FastifyInstance, deps: Deps): Promise<void> {
  const { metricsToken: token, otlpEndpoint } = deps.config;
  if (otlpEndpoint) (await import('../monitoring/request-spans.ts')).traceRequests(app);
  if (token === null && !otlpEndpoint) return;
  const { addApiMetrics } = await import('../monitoring/api-metrics.ts');
  const { isAllowed, openMonitoring } = await import('../monitoring/monitoring.ts');
  const monitoring = openMonitoring();
  addApiMetrics(app, deps, monitoring);
  if (otlpEndpoint) {
    const { observeMetrics } = await import('../monitoring/observed-metrics.ts');
    const end = observeMetrics(monitoring);
    app.addHook('onClose', async () => end());
  }
  if (token === null) return;
  app.get('/metrics', { schema: { hide: true } }, async (request, reply) => {
    if (!isAllowed(request.headers.authorization, token))
      throw new ApiError('invalid_api_key', 'Incorrect token: /metrics needs that of ANNEAL_METRICS_TOKEN.');
    reply.type(monitoring.registry.contentType);
    return monitoring.write();
  });
}
