// A worker as a process: with the api's routes for the lines of batches, with metrics and spans where they are asked for. What it
// works on is the queue's.
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

/** With /metrics, where a token and a port are set for it; with spans and the same numbers, where a collector is. */
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
      observeMetrics(monitoring); // to the end of the process: the SDK asks once more then
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
