// The worker: takes work from the queue; each kind is in a file of its own. Several may run, on several machines.
import type { Deps } from '../deps.ts';
import { combineMetrics, type TrainingMetrics } from '../monitoring/worker-metrics.ts';
import { CONTROL_CHANNEL } from '../store/jobs.ts';
import { openNotifications, QUEUE_CHANNEL } from '../store/notifications.ts';
import type { Answerer } from './answerer.ts';
import { deliverWebhooks } from './deliver-webhooks.ts';
import { evaluate } from './evaluate.ts';
import { exportModel } from './export-model.ts';
import { followOnWandb } from './follow-wandb.ts';
import { everyMinute, everyNight, keepHouse } from './housekeeping.ts';
import { keepSweeping } from './keep-sweeping.ts';
import type { MeasuredDevice } from './measure-device.ts';
import { register } from './registration.ts';
import { runBatches } from './run-batches.ts';
import { sweep } from './sweep.ts';
import { takeWork } from './take.ts';
import { train } from './train.ts';
import { validateFiles } from './validate-files.ts';
import { openWorkDirectory } from './work-directory.ts';

export interface Worker {
  /** Current runs write a checkpoint, if they can within seconds, and are requeued. */
  close(): Promise<void>;
}

export interface WorkerOptions {
  /** Concurrent trainings; each uses the whole accelerator. */
  trainings?: number;
  validations?: number;
  evaluations?: number;
  /** Observes trainings. */
  metrics?: TrainingMetrics | undefined;
  /** Measures the device; absent: not measured. */
  measureDevice?: (signal: AbortSignal) => Promise<MeasuredDevice>;
  /** Replaces the trainer's module in tests. */
  trainerModule?: string;
}

export interface WorkerDeps
  extends Pick<
    Deps,
    'config' | 'log' | 'pool' | 'blobs' | 'queue' | 'generation' | 'models' | 'python' | 'usage' | 'graderApi'
  > {
  /** Absent: the worker runs no batches. */
  answer?: Answerer | undefined;
}

export async function startWorker(deps: WorkerDeps, options: WorkerOptions = {}): Promise<Worker> {
  const { config, log, queue } = deps;
  if (!config.databaseUrl) throw new Error('a worker needs DATABASE_URL');
  const work = await openWorkDirectory(config.dataDirectory);
  const control = await openNotifications(config.databaseUrl, CONTROL_CHANNEL, log);
  const arrivals = await openNotifications(config.databaseUrl, QUEUE_CHANNEL, log);
  const closing = new AbortController();
  const runner = { id: work.runnerId, leaseSeconds: config.leaseSeconds };
  const { trainerModule } = options;
  const registration = register(deps, { id: runner.id, measure: options.measureDevice });
  const metrics = combineMetrics([registration.speeds, ...(options.metrics ? [options.metrics] : [])]);
  const runDeps = { ...deps, control, work, closing: closing.signal, trainerModule, metrics };
  const stops = [
    takeWork(
      { ...deps, runner, arrivals },
      {
        queue: 'validate-files',
        hands: options.validations ?? 2,
        handle: lease => validateFiles(runDeps, lease),
      },
    ),
    takeWork(
      { ...deps, runner, arrivals },
      { queue: 'train', hands: options.trainings ?? 1, handle: lease => train(runDeps, lease) },
    ),
    takeWork(
      { ...deps, runner, arrivals },
      { queue: 'evaluate', hands: options.evaluations ?? 2, handle: lease => evaluate(runDeps, lease) },
    ),
    takeWork(
      { ...deps, runner, arrivals },
      { queue: 'export', hands: 1, handle: lease => exportModel(runDeps, lease) },
    ),
    deliverWebhooks({ ...deps, arrivals }),
    followIfConfigured(deps),
    deps.answer
      ? runBatches({ ...deps, answer: deps.answer, arrivals, control, runner })
      : async () => undefined,
  ];
  const stopSweeping = keepSweeping({
    leaseSeconds: config.leaseSeconds,
    log,
    async beat() {
      await work.touch();
      await registration.beat();
    },
    sweep: () => sweep(deps),
  });
  const expiring = await queue.boss.work('expire-files', { pollingIntervalSeconds: 10 }, () =>
    keepHouse(everyMinute, deps, closing.signal),
  );
  const sweeping = await queue.boss.work('sweep-objects', { pollingIntervalSeconds: 60 }, () =>
    keepHouse(everyNight, deps, closing.signal),
  );
  log.info({ runner: runner.id }, 'the worker runs');
  return {
    async close() {
      closing.abort();
      await Promise.all(stops.map(stop => stop()));
      await stopSweeping();
      await queue.boss.offWork('expire-files', { id: expiring, wait: true });
      await queue.boss.offWork('sweep-objects', { id: sweeping, wait: true });
      await registration.close();
      await Promise.all([control.close(), arrivals.close()]);
      await work.close();
    },
  };
}

function followIfConfigured(deps: WorkerDeps): () => Promise<void> {
  const { wandbUrl: baseUrl, wandbApiKey: apiKey } = deps.config;
  return apiKey ? followOnWandb(deps, { baseUrl, apiKey }) : async () => undefined;
}
