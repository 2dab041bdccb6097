// Runs a dry run in a process of its own: fetches what a job names, starts the child, hands on its answer.
// What is found out is src/training/dry-run.ts'.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import type { ModelCache } from '../serving/model-cache.ts';
import type { NewJob } from '../store/jobs.ts';
import type { DryRunAnswer, DryRunSpec } from '../training/dry-run.ts';
import { askChild } from './ask-child.ts';
import { prepareSpec } from './inputs.ts';

const CHILD = join(import.meta.dirname, '../training/dry-run-child.ts');

export interface DryRunDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly models: ModelCache;
}

/** Throws InputMissing when what the job names is gone, and the signal's reason when that is aborted. */
export async function runDryRun(deps: DryRunDeps, job: NewJob, signal: AbortSignal): Promise<DryRunAnswer> {
  const directory = await mkdtemp(join(tmpdir(), 'anneal-dry-run-'));
  try {
    const store = { blobs: deps.blobs, log: deps.log, signal };
    const unnamed = { ...job, id: 'dry-run', organizationId: '', hyperparameters: null, layout: null };
    const inputs = await prepareSpec({ ...deps, store }, unnamed, directory);
    const { trainingFile: trainingFileId, validationFile: validationFileId } = job;
    const spec: DryRunSpec = { ...inputs, trainingFileId, validationFileId };
    const path = join(directory, 'spec.json');
    await writeFile(path, JSON.stringify(spec));
    return await askChild<DryRunAnswer>({ module: CHILD, specPath: path, what: 'the dry run', signal });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
