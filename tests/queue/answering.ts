// What a worker asks models with, as the program opens it: a generation process, the Python sandbox, the record of usage.
import { join } from 'node:path';
import type pg from 'pg';
import type { Blobs } from '../../src/blobs/blobs.ts';
import type { Config } from '../../src/config.ts';
import { sandboxOptions } from '../../src/deps.ts';
import { openGraderApi } from '../../src/evaluation/grader-api.ts';
import { openSandbox } from '../../src/evaluation/sandbox/sandbox.ts';
import type { Logger } from '../../src/log.ts';
import { openUsageRecorder } from '../../src/metering/usage-recorder.ts';
import type { WorkerDeps } from '../../src/queue/worker.ts';
import { openGenerationClient } from '../../src/serving/client.ts';
import { openModelCache } from '../../src/serving/model-cache.ts';

type Answering = Pick<WorkerDeps, 'generation' | 'models' | 'python' | 'usage' | 'graderApi'> & {
  close(): Promise<void>;
};

/** Nothing is started before it is asked. */
export function openAnswering(setting: {
  config: Config;
  log: Logger;
  pool: pg.Pool;
  blobs: Blobs;
}): Answering {
  const { config, log, pool, blobs } = setting;
  const service = {
    engine: 'onnx' as const,
    device: 'cpu' as const,
    threads: 1,
    modelBytes: 1e9,
    adapterBytes: 1e9,
    cacheBytes: 1e8,
    cacheDirectory: join(config.dataDirectory, 'cache'),
  };
  const models = openModelCache(blobs, join(config.dataDirectory, 'cache', 'models'));
  const generation = openGenerationClient({ service, cache: models, log });
  const python = openSandbox(sandboxOptions(config, log));
  const usage = openUsageRecorder({ pool, log });
  return {
    generation,
    models,
    python,
    usage,
    graderApi: openGraderApi(config),
    async close() {
      await Promise.all([generation.close(), python.close(), usage.close()]);
    },
  };
}
