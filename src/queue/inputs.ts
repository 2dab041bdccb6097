// Fetches what a trainer needs on its machine: the model, the data, and the checkpoint to resume from.
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { BlobNotFound } from '../blobs/blobs.ts';
import type { Config } from '../config.ts';
import type { ModelCache } from '../serving/model-cache.ts';
import { type JobError, settingsOf } from '../store/jobs.ts';
import { type ModelRow, readModel } from '../store/models.ts';
import { findInputFile, findResumePoint, type Run } from '../store/runs.ts';
import type {
  Method,
  RequestedHyperparameters,
  ResolvedHyperparameters,
  TrainSpec,
} from '../training/protocol.ts';
import { downloadFile, downloadFolder, type Store } from './artifacts.ts';
import { untilItWorks } from './retry.ts';

/** A file or model of the job no longer exists. */
export class InputMissing extends Error {
  readonly jobError: JobError;

  constructor(param: 'training_file' | 'validation_file' | 'model', id: string) {
    const what = { training_file: 'Training file', validation_file: 'Validation file', model: 'Model' }[
      param
    ];
    super(`${what} ${id} is no longer there`);
    this.jobError = { code: `invalid_${param}`, param, message: this.message };
  }
}

export interface InputDeps {
  readonly config: Config;
  readonly pool: pg.Pool;
  readonly store: Store;
  readonly models: ModelCache;
}

export async function prepareSpec(deps: InputDeps, job: Run, directory: string): Promise<TrainSpec> {
  const { config } = deps;
  const models = await fetchModels(deps, job.model);
  const { hyperparameters, ...settings } = settingsOf(job.method);
  return {
    jobId: job.id,
    ...models,
    trainingFile: await fetchFile(deps, directory, 'training_file', job.trainingFile),
    validationFile: job.validationFile
      ? await fetchFile(deps, directory, 'validation_file', job.validationFile)
      : null,
    workDirectory: directory,
    cacheDirectory: join(config.dataDirectory, 'cache'),
    resumeDirectory: await fetchResumePoint(deps, job.id, directory),
    method: { type: job.method.type, ...settings } as Method,
    hyperparameters: { ...hyperparameters, ...(job.hyperparameters && fixed(job.hyperparameters)) },
    seed: job.seed,
    engine: config.engine,
    device: config.device,
    precision: config.precision,
    threads: config.threads,
    checkpointSeconds: config.checkpointSeconds,
    memoryBudgetBytes: config.memoryBudgetBytes,
    layout: job.layout,
  };
}

/** As resolved by an earlier attempt, since `auto` may resolve differently now. The learning rate already includes its multiplier. */
const fixed = (resolved: ResolvedHyperparameters): RequestedHyperparameters => ({
  ...resolved,
  learning_rate_multiplier: undefined,
});

/** Training continues from an adapter on its base model. */
async function fetchModels(deps: InputDeps, id: string) {
  const model = await findModel(deps, id);
  if (model.kind !== 'adapter')
    return { modelDirectory: await fetchModel(deps, model), modelName: model.id, adapterDirectory: null };
  const base = await findModel(deps, model.baseModel!);
  return {
    modelDirectory: await fetchModel(deps, base),
    modelName: base.id,
    adapterDirectory: await fetchModel(deps, model),
  };
}

async function findModel({ pool, store }: InputDeps, id: string): Promise<ModelRow> {
  const model = await untilItWorks(() => readModel(pool, id), { what: 'reading the model', ...store });
  if (!model) throw new InputMissing('model', id);
  return model;
}

async function fetchModel({ models, store }: InputDeps, model: ModelRow): Promise<string> {
  try {
    return await untilItWorks(() => models.materialize(model.files), {
      what: `fetching model ${model.id}`,
      ...store,
    });
  } catch (error) {
    throw error instanceof BlobNotFound ? new InputMissing('model', model.id) : error;
  }
}

/** Path of the object itself if it is on this machine, else of a copy. */
async function fetchFile(
  { pool, store }: InputDeps,
  directory: string,
  param: 'training_file' | 'validation_file',
  id: string,
): Promise<string> {
  const file = await untilItWorks(() => findInputFile(pool, id), { what: 'reading a file', ...store });
  if (!file) throw new InputMissing(param, id);
  const local = store.blobs.localPath(file.blobKey);
  if (
    local &&
    (await access(local).then(
      () => true,
      () => false,
    ))
  )
    return local;
  const path = join(directory, `${param}.jsonl`);
  try {
    await downloadFile(store, { key: file.blobKey, sha256: file.sha256 }, path);
  } catch (error) {
    throw error instanceof BlobNotFound ? new InputMissing(param, id) : error;
  }
  return path;
}

async function fetchResumePoint(
  { pool, store }: InputDeps,
  jobId: string,
  directory: string,
): Promise<string | null> {
  const point = await untilItWorks(() => findResumePoint(pool, jobId), {
    what: 'reading checkpoints',
    ...store,
  });
  if (!point) return null;
  const path = join(directory, 'resume');
  await downloadFolder(store, point.files, path);
  return path;
}
