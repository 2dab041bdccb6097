// Exports the gauges and counters of the Prometheus registry to OpenTelemetry, under the same names. Durations have histograms of their own
// (request-spans.ts, training-spans.ts).
import { metrics, type Observable } from '@opentelemetry/api';
import type { Monitoring } from './monitoring.ts';

/** Our own metrics; process metrics are covered by the SDK's instrumentation. */
const OWN = /^anneal_/;

/** Exports all metrics registered so far, read when the SDK collects. Returns the function that stops it. */
export function observeMetrics({ registry, refresh }: Monitoring): () => void {
  const meter = metrics.getMeter('anneal');
  const observables = new Map<string, Observable>();
  for (const { name, help: description, type } of registry.getMetricsAsArray()) {
    if (!OWN.test(name)) continue;
    if (type === 'gauge') observables.set(name, meter.createObservableGauge(name, { description }));
    if (type === 'counter') observables.set(name, meter.createObservableCounter(name, { description }));
  }
  const all = [...observables.values()];
  const observe: Parameters<typeof meter.addBatchObservableCallback>[0] = async result => {
    await refresh();
    for (const { name, values } of await registry.getMetricsAsJSON()) {
      const observable = observables.get(name);
      if (!observable) continue;
      for (const { value, labels } of values) result.observe(observable, value, labels);
    }
  };
  meter.addBatchObservableCallback(observe, all);
  return () => meter.removeBatchObservableCallback(observe, all);
}
