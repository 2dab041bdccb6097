// The worker process: the worker of src/queue, with the API's routes for batches, and with metrics and traces where configured.
import { buildAnswerer } from './app.ts';
import type { Deps } from './deps.ts';
import { openMonitoring } from './monitoring/monitoring.ts';
import { observeMetrics } from './monitoring/observed-metrics.ts';
import { type MetricsServer, openMetricsServer } from './monitoring/server.ts';
import { openTrainingSpans } from './monitoring/training-spans.ts';
import { addTrainingMetrics, combineMetrics, type TrainingMetrics } from './monitoring/worker-metrics.ts';
import { measureDevice } from './queue/measure-device.ts';
import { startWorker, type WorkerDeps } from './queue/worker.ts';

interface Running {
  close(): Promise<void>;
}

export async function startAnsweringWorker(deps: Deps): Promise<Running> {
  const answerer = buildAnswerer(deps);
  const worker = await startMonitoredWorker({ ...deps, answer: answerer.answer });
  return {
    async close() {
      await worker.close();
      await answerer.close();
    },
  };
}

/** Serves /metrics if a token and a port are set; exports traces and metrics if a collector is set. */
async function startMonitoredWorker(deps: Deps & WorkerDeps): Promise<Running> {
  const { log, config } = deps;
  const { metricsToken: token, workerMetricsPort: port, host } = config;
  const serves = token !== null && port !== null;
  const watching: TrainingMetrics[] = [];
  let server: MetricsServer | undefined;
  if (serves || config.otlpEndpoint) {
    const monitoring = openMonitoring();
    watching.push(addTrainingMetrics(monitoring));
    if (serves) server = await openMetricsServer({ monitoring, token, host, port, log });
    if (config.otlpEndpoint) {
      watching.push(openTrainingSpans());
      observeMetrics(monitoring); // never removed: the SDK collects once more at the end of the process
    }
  }
  const worker = await startWorker(deps, {
    metrics: combineMetrics(watching),
    measureDevice: signal => measureDevice(config, signal),
  });
  return {
    async close() {
      await worker.close();
      await server?.close();
    },
  };
}
