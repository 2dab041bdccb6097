// Performs a dry run in a child process: fetches the job's inputs, starts the child, returns its report. The report itself is made by
// src/training/dry-run.ts.
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
import type { Machine } from '../training/estimate.ts';
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

/** Throws InputMissing when a file or model of the job no longer exists, and the signal's reason when it is aborted. */
export async function runDryRun(
  deps: DryRunDeps,
  job: NewJob,
  { machines, signal }: { machines: Machine[]; signal: AbortSignal },
): Promise<DryRunAnswer> {
  const directory = await mkdtemp(join(tmpdir(), 'anneal-dry-run-'));
  try {
    const store = { blobs: deps.blobs, log: deps.log, signal };
    const unnamed = { ...job, id: 'dry-run', organizationId: '', hyperparameters: null, layout: null };
    const inputs = await prepareSpec({ ...deps, store }, unnamed, directory);
    const { trainingFile: trainingFileId, validationFile: validationFileId } = job;
    const ask = async (machines: Machine[]) => {
      const spec: DryRunSpec = { ...inputs, trainingFileId, validationFileId, machines };
      const specPath = join(directory, 'spec.json');
      await writeFile(specPath, JSON.stringify(spec));
      return askChild<DryRunAnswer>({ module: CHILD, specPath, what: 'the dry run', signal });
    };
    return await ask(machines).catch(error => {
      if (signal.aborted || machines.length === 0) throw error;
      deps.log.warn({ error }, 'a dry run broke off; it is made again without measuring');
      return ask([]).then(withoutEstimates);
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** For when the measuring process crashed, probably for lack of memory. */
function withoutEstimates(answer: DryRunAnswer): DryRunAnswer {
  if (answer.type !== 'done') return answer;
  const unmeasured = 'The memory that a step takes could not be measured on the machine of this api.';
  return { ...answer, report: { ...answer.report, unmeasured } };
}
