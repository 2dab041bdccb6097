// The dependencies of a running process: opened once, passed to its parts, and closed at its end.
import { join } from 'node:path';
import type pg from 'pg';
import type { Blobs } from './blobs/blobs.ts';
import { openBlobs } from './blobs/open.ts';
import type { Config } from './config.ts';
import type { GraderApi } from './evaluation/grader-api.ts';
import { openSandbox, type PythonSandbox, type SandboxOptions } from './evaluation/sandbox/sandbox.ts';
import { type Logger, openLog } from './log.ts';
import { openUsageRecorder, type UsageRecorder } from './metering/usage-recorder.ts';
import { openQueue, type Queue } from './queue/queue.ts';
import { type GenerationClient, openGenerationClient } from './serving/client.ts';
import { type ModelCache, openModelCache } from './serving/model-cache.ts';
import type { ServiceOptions } from './serving/protocol.ts';
import { openPool } from './store/database.ts';
import { EVENTS_CHANNEL } from './store/events.ts';
import { missingMigrations } from './store/migrate.ts';
import { type Notifications, openNotifications } from './store/notifications.ts';

export interface Deps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
  /** Notifications of new job events (channel `anneal_events`). */
  readonly events: Notifications;
  readonly generation: GenerationClient;
  /** Downloads stored models into local folders. */
  readonly models: ModelCache;
  /** Records the usage of requests. */
  readonly usage: UsageRecorder;
  /** For graders in Python. */
  readonly python: PythonSandbox;
  /** API for grader models that are not served here; null if not configured. */
  readonly graderApi: GraderApi | null;
}

export interface OpenedDeps {
  readonly deps: Deps;
  close(): Promise<void>;
}

/** Throws when the database is unavailable or not migrated. `config.databaseUrl` must be set. */
export async function openDeps(config: Config, process: 'api' | 'worker'): Promise<OpenedDeps> {
  const databaseUrl = config.databaseUrl!;
  const log = openLog({ level: config.logLevel, process });
  const pool = openPool(databaseUrl, log);
  const closing: (() => Promise<unknown>)[] = [() => pool.end()];
  const close = async () => {
    for (const closeOne of closing.reverse()) await closeOne();
  };
  try {
    const missing = await missingMigrations(pool);
    if (missing.length > 0)
      throw new Error(`the database lacks ${missing.join(', ')}: run \`npm run migrate\``);
    const onError = (error: Error) => log.warn({ error }, 'queue');
    const usage = openUsageRecorder({ pool, log });
    closing.push(() => usage.close());
    const queue = await openQueue(databaseUrl, { onError, supervise: process === 'worker' });
    closing.push(() => queue.close());
    const events = await openNotifications(databaseUrl, EVENTS_CHANNEL, log);
    closing.push(() => events.close());
    const blobs = await openBlobs(config);
    const models = openModelCache(blobs, join(config.dataDirectory, 'cache', 'models'));
    const generation = openGenerationClient({
      service: { ...servingOptions(config), ...(process === 'worker' ? { niceness: WORKER_NICENESS } : {}) },
      cache: models,
      log,
    });
    closing.push(() => generation.close());
    const python = openSandbox(sandboxOptions(config, log));
    closing.push(() => python.close());
    const graderApi = await openGraders(config);
    const services = { queue, events, generation, models, python, usage, graderApi };
    return { deps: { config, log, pool, blobs, ...services }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Imported only if configured: OpenAI's client takes 30 MB of memory. */
async function openGraders(config: Config): Promise<GraderApi | null> {
  if (!config.graderUrl) return null;
  const { openGraderApi } = await import('./evaluation/grader-api.ts');
  return openGraderApi(config);
}

/** Niceness of a worker's generation process, which serves batches: below that of the api (8) and of training (10). */
const WORKER_NICENESS = 12;

/** Shares of the memory for inference. */
const SERVING_SHARES = { models: 0.6, caches: 0.3, adapters: 0.1 };

function servingOptions({
  engine,
  device,
  precision,
  threads,
  servingMemoryBytes,
  servingQuantization,
  dataDirectory,
}: Config): ServiceOptions {
  return {
    engine,
    device,
    precision,
    threads,
    modelBytes: Math.floor(servingMemoryBytes * SERVING_SHARES.models),
    cacheBytes: Math.floor(servingMemoryBytes * SERVING_SHARES.caches),
    adapterBytes: Math.floor(servingMemoryBytes * SERVING_SHARES.adapters),
    cacheDirectory: join(dataDirectory, 'cache'),
    quantization: servingQuantization,
  };
}

export function sandboxOptions(config: Config, log: Logger): SandboxOptions {
  return {
    allowed: config.pythonGraders,
    seconds: config.pythonGraderSeconds,
    memoryBytes: config.pythonGraderMemoryBytes,
    log,
  };
}
