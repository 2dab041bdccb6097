// Monitoring of the api: GET /metrics for Prometheus, if a token is set, and traces and the same metrics for OpenTelemetry, if a collector
// is set.
import type { FastifyInstance } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';

/** Imports only what is configured: Prometheus' client alone takes 20 MB of memory. */
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
