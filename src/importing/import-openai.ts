// Imports an OpenAI account through its API: files with their content, then finished jobs with events, checkpoints and model names.
// Ids and timestamps are kept. Objects that were imported before are skipped, so an interrupted import can be run again.
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import OpenAI from 'openai';
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import { fileBlobKey } from '../store/files.ts';
import { findOwner, importFile, importJob } from '../store/imports.ts';
import { hasEnded, type ImportPlace, readJob, toDate } from './openai-jobs.ts';

export interface ImportOptions {
  client: OpenAI;
  pool: pg.Pool;
  blobs: Blobs;
  projectId: string;
  report?(progress: ImportProgress): void;
}

export interface ImportProgress {
  kind: 'file' | 'job';
  id: string;
  /** Number of objects of this kind so far, this one included. */
  done: number;
  total: number;
  outcome: ImportOutcome;
}

export type ImportOutcome =
  | { type: 'imported' }
  /** Already imported before. */
  | { type: 'present' }
  | { type: 'skipped'; reason: string };

const imported: ImportOutcome = { type: 'imported' };
const present: ImportOutcome = { type: 'present' };

export async function importOpenai(options: ImportOptions): Promise<void> {
  const files = await collect(options.client.files.list({ limit: 10_000, order: 'asc' }));
  await forEach(options, 'file', files, file => takeFile(options, file));
  const jobs = (await collect(options.client.fineTuning.jobs.list({ limit: 100 }))).reverse();
  await forEach(options, 'job', jobs, job => takeJob(options, job));
}

async function collect<T>(pages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of pages) all.push(one);
  return all;
}

async function forEach<T extends { id: string }>(
  { report }: ImportOptions,
  kind: ImportProgress['kind'],
  all: T[],
  take: (one: T) => Promise<ImportOutcome>,
): Promise<void> {
  for (const [index, one] of all.entries()) {
    const outcome = await take(one);
    report?.({ kind, id: one.id, done: index + 1, total: all.length, outcome });
  }
}

async function takeFile(options: ImportOptions, file: OpenAI.FileObject): Promise<ImportOutcome> {
  const { client, pool, blobs, projectId } = options;
  const known = await findKnown(options, 'files', file.id);
  if (known) return known;
  const content = await client.files.content(file.id).catch(asRefusal);
  if (!(content instanceof Response)) return content;
  const bytes = Readable.fromWeb(content.body as ReadableStream<Uint8Array>);
  const stored = await blobs.put(fileBlobKey(file.id), bytes);
  await importFile(pool, {
    id: file.id,
    projectId,
    purpose: file.purpose,
    filename: file.filename,
    bytes: stored.sizeBytes,
    sha256: stored.sha256,
    blobKey: stored.key,
    createdAt: toDate(file.created_at),
    expiresAt: file.expires_at ? toDate(file.expires_at) : null,
  });
  return imported;
}

/** Files that cannot be downloaded: of a purpose that does not allow it, or deleted meanwhile. Other errors end the import. */
function asRefusal(error: unknown): ImportOutcome {
  if (error instanceof OpenAI.APIError && [400, 403, 404].includes(error.status))
    return { type: 'skipped', reason: error.message };
  throw error;
}

async function takeJob(options: ImportOptions, job: OpenAI.FineTuning.FineTuningJob): Promise<ImportOutcome> {
  const known = await findKnown(options, 'jobs', job.id);
  if (known) return known;
  if (!hasEnded(job))
    return { type: 'skipped', reason: `it is ${job.status}; import again once it has ended` };
  const place: ImportPlace = { projectId: options.projectId, importedFrom: options.client.baseURL };
  await importJob(options.pool, await readJob(options.client, job, place));
  return imported;
}

async function findKnown(
  { pool, projectId }: ImportOptions,
  table: 'files' | 'jobs',
  id: string,
): Promise<ImportOutcome | null> {
  const owner = await findOwner(pool, table, id);
  if (owner === null) return null;
  return owner === projectId ? present : { type: 'skipped', reason: `it is in another project (${owner})` };
}
