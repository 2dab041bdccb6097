// Starts the OpenTelemetry SDK if a collector is configured. The SDK itself reads the other OTEL_* variables (headers, protocol, sampler,
// resource attributes). Traces and metrics are defined in request-spans.ts, training-spans.ts and observed-metrics.ts.
import packageJson from '../../package.json' with { type: 'json' };
import type { Config } from '../config.ts';

export interface Telemetry {
  /** Flushes, if the collector is available. */
  close(): Promise<void>;
}

/** Null if not configured: the package is then not loaded, and spans cost nothing. */
export async function openTelemetry(config: Config, process: 'api' | 'worker'): Promise<Telemetry | null> {
  if (!config.otlpEndpoint) return null;
  const { NodeSDK } = await import('@opentelemetry/sdk-node');
  const sdk = new NodeSDK({ serviceName: config.serviceName ?? `${packageJson.name}-${process}` });
  sdk.start();
  // an unavailable collector must not fail the shutdown
  return { close: () => sdk.shutdown().catch(() => undefined) };
}
