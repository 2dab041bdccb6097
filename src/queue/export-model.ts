// Executes an export under its lease: downloads the model, runs the child process that writes and verifies the export, uploads the file.
// The formats are in src/exporting.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import type { Config } from '../config.ts';
import type { ExportAnswer, ExportChildSpec } from '../exporting/child.ts';
import type { Logger } from '../log.ts';
import type { ModelCache } from '../serving/model-cache.ts';
import { readTarget } from '../serving/target.ts';
import { fileBlobKey, insertFile, newFileId } from '../store/files.ts';
import { fenced, giveBack, JobEnded, type Lease, LeaseLost } from '../store/leases.ts';
import { endExport, type ModelExport, readExport } from '../store/model-exports.ts';
import type { Notifications } from '../store/notifications.ts';
import { uploadFile } from './artifacts.ts';
import { askChild } from './ask-child.ts';
import { errorReason } from './crash.ts';
import { keepLease } from './lease-keeper.ts';
import type { Queue } from './queue.ts';
import { untilItWorks } from './retry.ts';
import type { WorkDirectory } from './work-directory.ts';

export interface ExportDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
  readonly models: ModelCache;
  readonly control: Notifications;
  readonly work: WorkDirectory;
  /** Aborted when the worker shuts down. */
  readonly closing: AbortSignal;
}

type ExportLease = Lease<'model_exports'>;

const CHILD = join(import.meta.dirname, '../exporting/child.ts');
const MAX_CRASHES = 3;

/** Never throws: the export has ended, or another worker can take it. */
export async function exportModel(deps: ExportDeps, lease: ExportLease): Promise<void> {
  const log = deps.log.child({ export: lease.id, attempt: lease.attempt });
  const keeper = keepLease({ ...deps, log }, lease);
  const signal = AbortSignal.any([keeper.signal, deps.closing]);
  const folder = `${lease.id}.${lease.attempt}`;
  try {
    await run({ ...deps, log }, lease, signal, folder).catch(error =>
      settle({ ...deps, log }, lease, error, keeper.signal),
    );
  } catch (error) {
    const reason = keeper.signal.aborted ? keeper.signal.reason : error;
    if (reason instanceof LeaseLost || reason instanceof JobEnded) log.info(reason.message);
    else log.error({ error: reason }, 'the end of an export was not written; its lease will run out');
  } finally {
    keeper.close();
    await deps.work.remove(folder).catch(error => log.warn({ error }, 'a work folder was not removed'));
  }
}

async function run(deps: ExportDeps, lease: ExportLease, signal: AbortSignal, folder: string): Promise<void> {
  const { pool, log } = deps;
  const asked = await untilItWorks(() => readExport(pool, lease.id), {
    what: 'reading the export',
    log,
    signal,
  });
  if (!asked) throw new LeaseLost(lease);
  const made = await make(deps, asked, signal, folder);
  if (made.type === 'refused') {
    const error = { code: 'unsupported_export', message: made.message };
    await untilItWorks(() => fenced(pool, lease, tx => endExport(tx, lease.id, { error })), {
      what: 'writing the end',
      log,
      signal,
    });
    return;
  }
  const fileId = newFileId();
  const stored = await uploadFile({ ...deps, signal }, made.file, fileBlobKey(fileId), made.filename);
  const { compared, largestDifference } = made;
  const name = () =>
    fenced(pool, lease, async tx => {
      await insertFile(tx, {
        id: fileId,
        projectId: asked.projectId,
        purpose: 'fine-tune-results',
        filename: made.filename,
        bytes: stored.bytes,
        sha256: stored.sha256,
        blobKey: stored.key,
      });
      await endExport(tx, lease.id, { result: { fileId, compared, largestDifference } });
    });
  await untilItWorks(name, { what: 'writing the end', log, signal });
  log.info({ model: asked.model, format: asked.format, compared, largestDifference }, 'a model was exported');
}

async function make(
  { pool, models, config, work }: ExportDeps,
  { projectId, model, format }: ModelExport,
  signal: AbortSignal,
  folder: string,
): Promise<ExportAnswer> {
  const target = await readTarget(pool, projectId, model);
  if (!target) return { type: 'refused', message: `The model ${model} was deleted` };
  const { files, adapterFiles } = target.model;
  const workDirectory = await work.open(folder);
  const spec: ExportChildSpec = {
    format,
    name: model,
    modelDirectory: await models.materialize(files),
    adapterDirectory: adapterFiles && (await models.materialize(adapterFiles)),
    workDirectory,
    threads: config.threads,
  };
  const specPath = join(workDirectory, 'spec.json');
  await writeFile(specPath, JSON.stringify(spec));
  return askChild<ExportAnswer>({ module: CHILD, specPath, what: 'the export', signal });
}

/** After a failure: requeues the export, or fails it after too many crashes. */
async function settle(
  { pool, log, queue, closing }: ExportDeps,
  lease: ExportLease,
  error: unknown,
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted || error instanceof LeaseLost || error instanceof JobEnded) throw error;
  const broke = !closing.aborted;
  if (broke) log.error({ error }, 'an export broke off');
  const write = () =>
    fenced(pool, lease, async tx => {
      const crashes = await giveBack(tx, lease, broke);
      if (crashes < MAX_CRASHES) return queue.enqueueExport(lease.id, { client: tx, first: true });
      const message = `${errorReason(error)}, ${crashes} times. The worker's log says more.`;
      await endExport(tx, lease.id, { error: { code: 'server_error', message } });
    });
  await untilItWorks(write, { what: 'giving the export back', log, signal });
}
