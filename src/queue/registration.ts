// Registers a worker in the table of live workers, with its hardware and speed, and renews the entry. Dry runs read it.
import { hostname } from 'node:os';
import type pg from 'pg';
import type { Config } from '../config.ts';
import { machineBytes } from '../engine/machine.ts';
import type { Logger } from '../log.ts';
import type { TrainingMetrics } from '../monitoring/worker-metrics.ts';
import { addRunSpeed, removeRunners, writeRunner } from '../store/runners.ts';
import { findRootModel, readRun } from '../store/runs.ts';
import type { TrainerEvent } from '../training/protocol.ts';
import type { MeasuredDevice } from './measure-device.ts';

export interface RegistrationDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
}

export interface Registration {
  /** Renews the entry. */
  beat(): Promise<void>;
  /** Records the speed of the runs that it observes. */
  readonly speeds: TrainingMetrics;
  close(): Promise<void>;
}

export interface RegistrationOptions {
  readonly id: string;
  /** Absent: the device is not measured. */
  measure?: ((signal: AbortSignal) => Promise<MeasuredDevice>) | undefined;
}

/** Measuring takes a second or two; until then the entry has no speed. */
export function register(deps: RegistrationDeps, { id, measure }: RegistrationOptions): Registration {
  const { config, pool, log } = deps;
  const { engine, threads, memoryBudgetBytes } = config;
  const stopping = new AbortController();
  let device: MeasuredDevice | null = null;
  const startedAt = new Date();
  const beat = () =>
    writeRunner(
      pool,
      {
        id,
        host: hostname(),
        hardware: device?.hardware ?? 'unknown',
        engine,
        device: device?.device ?? config.device,
        threads,
        memoryBytes: machineBytes(),
        freeBytes: process.availableMemory(),
        memoryBudgetBytes,
        flopsPerSecond: device?.flopsPerSecond ?? null,
        startedAt,
      },
      config.leaseSeconds,
    );
  const measuring = (async () => {
    if (!measure) return;
    try {
      device = await measure(stopping.signal);
      log.info({ ...device }, 'the device was measured');
      await beat();
    } catch (error) {
      if (!stopping.signal.aborted) log.warn({ error }, 'the device was not measured');
    }
  })();
  return {
    beat,
    speeds: recordSpeeds(deps, () => device?.hardware ?? null),
    async close() {
      stopping.abort();
      await measuring;
      await removeRunners(pool, id).catch(() => undefined); // it falls silent all the same
    },
  };
}

type Prepared = Extract<TrainerEvent, { type: 'prepared' }>;

/** Leaves out the first step of an attempt, which also compiles the programs. */
function recordSpeeds({ pool, log }: RegistrationDeps, hardware: () => string | null): TrainingMetrics {
  async function write(jobId: string, prepared: Prepared, steps: { flops: number; seconds: number }) {
    const { layout, hyperparameters } = prepared;
    const name = hardware();
    if (name === null || steps.flops === 0) return;
    const model = await findRootModel(pool, (await readRun(pool, jobId)).model);
    const { adapter, quantization = 'none' } = hyperparameters; // runs of before there was a choice say none
    const machine = {
      hardware: name,
      engine: String(layout.engine),
      device: String(layout.device),
      threads: Number(layout.threads),
    };
    await addRunSpeed(pool, { ...machine, model, adapter, quantization }, steps);
  }
  return {
    async *follow(events, { jobId }) {
      let prepared: Prepared | null = null;
      let isFirst = true;
      const steps = { flops: 0, seconds: 0 };
      try {
        for await (const batch of events) {
          for (const event of batch) {
            if (event.type === 'prepared') prepared = event;
            if (event.type !== 'step') continue;
            if (!isFirst) {
              steps.flops += event.flops;
              steps.seconds += event.seconds;
            }
            isFirst = false;
          }
          yield batch;
        }
      } finally {
        if (prepared)
          await write(jobId, prepared, steps).catch(error =>
            log.warn({ error, job: jobId }, 'the speed of a run was not noted'),
          );
      }
    },
    ended: () => undefined,
  };
}
