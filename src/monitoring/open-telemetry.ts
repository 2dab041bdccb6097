// OpenTelemetry: its SDK, loaded only when a collector is named. The SDK reads the other OTEL_* variables by itself
// (headers, protocol, sampler, resource attributes); what is traced and measured is in request-spans.ts and training-spans.ts.
import packageJson from '../../package.json' with { type: 'json' };
import type { Config } from '../config.ts';

export interface Telemetry {
  /** Sends what has not been sent, if the collector takes it. */
  close(): Promise<void>;
}

/** Null when nothing is asked for: then the package is not even loaded, and spans cost nothing. */
export async function openTelemetry(config: Config, process: 'api' | 'worker'): Promise<Telemetry | null> {
  if (!config.otlpEndpoint) return null;
  const { NodeSDK } = await import('@opentelemetry/sdk-node');
  const sdk = new NodeSDK({ serviceName: config.serviceName ?? `${packageJson.name}-${process}` });
  sdk.start();
  // a collector that is away must not fail the stop
  return { close: () => sdk.shutdown().catch(() => undefined) };
}
