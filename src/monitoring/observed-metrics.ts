// What Prometheus is told of jobs, the queue, tokens, memory and devices, told to OpenTelemetry as well, under the same names. How long
// requests and steps take is told by histograms of its own (request-spans.ts, training-spans.ts).
import { metrics, type Observable } from '@opentelemetry/api';
import type { Monitoring } from './monitoring.ts';

/** Those of the process itself are for the SDK's own instruments. */
const OWN = /^anneal_/;

/** All that has been added to `monitoring` before; read when the SDK collects. Returns what ends it. */
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
