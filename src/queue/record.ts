// Persists the messages of a trainer as rows, objects and events, in order and exactly once. During an outage of the database or the object
// store the trainer continues, and its messages are buffered.
import { access, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { Config } from '../config.ts';
import { checkpointModelId } from '../ids.ts';
import type { Logger } from '../log.ts';
import { appendEvents, type NewEvent } from '../store/events.ts';
import { insertFile, newFileId } from '../store/files.ts';
import type { JobError, JobStatus } from '../store/jobs.ts';
import { fenced, type Lease } from '../store/leases.ts';
import { insertModel, type NewModel, readModel, type StoredFile } from '../store/models.ts';
import {
  dropOldModels,
  dropOldResumePoints,
  findCheckpointFiles,
  findRootModel,
  insertCheckpoint,
  type Prepared,
  type Run,
  readMetrics,
  type Step,
  writePrepared,
  writeSteps,
  writeSuccess,
} from '../store/runs.ts';
import type { TrainerEvent } from '../training/protocol.ts';
import { resultsCsv } from '../training/results.ts';
import { type Store, uploadFile, uploadFolder } from './artifacts.ts';
import { cleanJob } from './garbage.ts';
import { fineTunedModelName } from './model-name.ts';
import { untilItWorks } from './retry.ts';
import * as say from './run-events.ts';

export interface Recorder {
  readonly config: Config;
  readonly pool: pg.Pool;
  readonly log: Logger;
  readonly store: Store;
  readonly lease: Lease<'jobs'>;
  readonly job: Run;
  /** The trainer's work folder. */
  readonly directory: string;
}

export type RunEnd = { type: 'succeeded' } | { type: 'stopped' } | { type: 'failed'; error: JobError };

/** Checkpoints of a job that are served as models. */
const KEPT_MODELS = 3;

/** Returns how the trainer ended; null when it died without a final message. */
export async function recordRun(
  recorder: Recorder,
  batches: AsyncIterable<TrainerEvent[]>,
): Promise<RunEnd | null> {
  let end: RunEnd | null = null;
  for await (const batch of batches) {
    for (const group of groupSteps(batch)) end = (await recordGroup(recorder, group)) ?? end;
  }
  return end;
}

/** Consecutive steps are written together. */
function groupSteps(events: TrainerEvent[]): TrainerEvent[][] {
  const groups: TrainerEvent[][] = [];
  for (const event of events) {
    const last = groups.at(-1);
    if (event.type === 'step' && last?.at(0)?.type === 'step') last.push(event);
    else groups.push([event]);
  }
  return groups;
}

type Said<Type extends TrainerEvent['type']> = Extract<TrainerEvent, { type: Type }>;

async function recordGroup(recorder: Recorder, group: TrainerEvent[]): Promise<RunEnd | null> {
  const event = group[0]!;
  const recorded = records[event.type] as (
    recorder: Recorder,
    events: TrainerEvent[],
  ) => Promise<RunEnd | null>;
  return recorded(recorder, group);
}

const records: {
  [Type in TrainerEvent['type']]: (recorder: Recorder, events: Said<Type>[]) => Promise<RunEnd | null>;
} = {
  prepared: (recorder, [event]) => recordPrepared(recorder, event!),
  step: recordSteps,
  checkpoint: (recorder, [event]) => recordCheckpoint(recorder, event!),
  progress: (recorder, [event]) => recordEvent(recorder, say.progress(event!)),
  evaluation: (recorder, [event]) => recordEvent(recorder, say.evaluated(event!.report)),
  finished: (recorder, [event]) => recordFinish(recorder, event!),
  stopped: async () => ({ type: 'stopped' }),
  failed: async (_, [event]) => {
    const { code, param, message } = event!;
    return { type: 'failed', error: { code, param, message } };
  },
};

/** A fenced write of this run, retried until the database accepts it. */
function write<T>(
  { pool, lease, store }: Recorder,
  what: string,
  work: (tx: pg.PoolClient, status: JobStatus) => Promise<T>,
): Promise<T> {
  return untilItWorks(() => fenced(pool, lease, work), { what, ...store });
}

async function recordEvent(recorder: Recorder, event: NewEvent): Promise<null> {
  await write(recorder, 'writing an event', tx => appendEvents(tx, recorder.job.id, [event]));
  return null;
}

async function recordPrepared(recorder: Recorder, prepared: Prepared): Promise<null> {
  const truncated = say.truncated(prepared);
  const events = [...(truncated ? [truncated] : []), ...say.equalAnswers(prepared)];
  await write(recorder, 'writing what was prepared', async tx => {
    await writePrepared(tx, recorder.job.id, prepared);
    if (events.length > 0) await appendEvents(tx, recorder.job.id, events);
  });
  return null;
}

async function recordSteps(recorder: Recorder, steps: Step[]): Promise<null> {
  await write(recorder, 'writing steps', async tx => {
    const different = await writeSteps(tx, recorder.job.id, steps);
    if (different.length > 0)
      recorder.log.error({ steps: different }, 'steps done again had other numbers than the first time');
    await appendEvents(tx, recorder.job.id, steps.map(say.step));
  });
  return null;
}

// ---- checkpoints

async function recordCheckpoint(recorder: Recorder, said: Said<'checkpoint'>): Promise<null> {
  const { pool, store, job, lease } = recorder;
  const { kind, step, metrics, directory } = said;
  const stored = await untilItWorks(() => findCheckpointFiles(pool, job.id, kind, step), {
    what: 'reading checkpoints',
    ...store,
  });
  if (!stored) {
    const prefix = `jobs/${job.id}/${lease.attempt}/${kind}-step-${step}`;
    const files = await uploadFolder(store, directory, prefix);
    const model = kind === 'model' ? await checkpointModel(recorder, step, files) : null;
    await write(recorder, 'writing a checkpoint', async tx => {
      const isNew = await insertCheckpoint(tx, job.id, {
        kind,
        step,
        metrics,
        files,
        model: model?.id ?? null,
      });
      if (!isNew) return;
      if (model) await insertModel(tx, model);
      if (kind === 'model') await dropOldModels(tx, job.id, KEPT_MODELS);
      else await dropOldResumePoints(tx, job.id);
      if (kind === 'model') await appendEvents(tx, job.id, [say.checkpointCreated(step)]);
    });
    await cleanJob({ pool, blobs: store.blobs }, lease).catch(error =>
      recorder.log.warn({ error }, 'old objects were not removed'),
    );
  }
  if (kind === 'resume') await rm(directory, { recursive: true, force: true });
  return null;
}

async function checkpointModel(recorder: Recorder, step: number, files: StoredFile[]): Promise<NewModel> {
  const model = await describeModel(recorder, step, files);
  return { ...model, id: checkpointModelId(model.id, step) };
}

/** The row of a model with a checkpoint's files. */
async function describeModel(recorder: Recorder, step: number, files: StoredFile[]): Promise<NewModel> {
  const { pool, config, job, store } = recorder;
  const retry = { what: 'reading models', ...store };
  const from = (await untilItWorks(() => readModel(pool, job.model), retry))!;
  const root = await untilItWorks(() => findRootModel(pool, job.model), retry);
  const isAdapter = files.some(file => file.path === 'adapter_config.json');
  return {
    id: fineTunedModelName({
      base: root,
      organization: config.organization,
      suffix: job.suffix,
      jobId: job.id,
    }),
    projectId: job.projectId,
    kind: isAdapter ? 'adapter' : 'full',
    architecture: from.architecture,
    // Training that continues from an adapter makes an adapter on the same base.
    baseModel: from.kind === 'adapter' ? from.baseModel : from.id,
    jobId: job.id,
    step,
    ownedBy: job.organizationId,
    files,
  };
}

// ---- the end

/** Publishes the model, the result files and the job's end in one transaction. */
async function recordFinish(recorder: Recorder, said: Said<'finished'>): Promise<RunEnd> {
  const { pool, store, job } = recorder;
  const files = await untilItWorks(() => findCheckpointFiles(pool, job.id, 'model', said.bestStep), {
    what: 'reading checkpoints',
    ...store,
  });
  if (!files) throw new Error(`the trainer names step ${said.bestStep} as its best, which is no checkpoint`);
  const model = await describeModel(recorder, said.bestStep, files);
  const results = await storeResults(recorder, said.manifest);
  const ended = await write(recorder, 'writing the result', async (tx, status) => {
    if (status === 'paused') return false;
    await insertModel(tx, model);
    for (const { name, id, stored } of results) {
      await insertFile(tx, {
        id,
        projectId: job.projectId,
        purpose: 'fine-tune-results',
        filename: name,
        bytes: stored.bytes,
        sha256: stored.sha256,
        blobKey: stored.key,
      });
    }
    await writeSuccess(tx, job.id, {
      fineTunedModel: model.id,
      trainedTokens: said.trainedTokens,
      manifest: said.manifest,
      resultFiles: results.map(result => result.id),
    });
    await appendEvents(tx, job.id, [say.modelCreated(model.id), say.completed]);
    return true;
  });
  return { type: ended ? 'succeeded' : 'stopped' };
}

interface ResultFile {
  name: string;
  id: string;
  stored: StoredFile;
}

/** Metrics first; read from the database, because this attempt may have run only the last steps. */
async function storeResults(recorder: Recorder, manifest: Record<string, unknown>): Promise<ResultFile[]> {
  const { pool, store, job, lease, directory } = recorder;
  const metrics = await untilItWorks(() => readMetrics(pool, job.id), { what: 'reading metrics', ...store });
  await writeFile(join(directory, 'results.csv'), resultsCsv(metrics, job.method.type));
  await writeFile(join(directory, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  const results: ResultFile[] = [];
  for (const name of ['results.csv', 'evaluation.json', 'manifest.json']) {
    const path = join(directory, name);
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    if (!exists) continue; // without a validation file there is no evaluation
    const key = `jobs/${job.id}/${lease.attempt}/results/${name}`;
    results.push({ name, id: newFileId(), stored: await uploadFile(store, path, key, name) });
  }
  return results;
}
