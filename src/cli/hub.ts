// Downloads the files of a model from the Hugging Face Hub, or a mirror with the same API, into a folder. Does not use the database.
import { createWriteStream } from 'node:fs';
import { mkdir, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { downloadFile, type ListFileEntry, listFiles } from '@huggingface/hub';
import { isModelFile } from '../formats/model-folder.ts';
import { ModelError } from '../models/model-error.ts';
import type { Transfer } from './add-model.ts';
import { hashFile } from './file-hash.ts';

export interface HubModel {
  /** `owner/name`. */
  readonly repo: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** null: the public hub. */
  readonly hubUrl: string | null;
  readonly token: string | null;
  /** Created if missing; complete files in it are not downloaded again. */
  readonly into: string;
  onProgress?(transfer: Transfer): void;
}

/** Throws ModelError when the model cannot be accessed or lacks required files. */
export async function downloadModel(model: HubModel): Promise<void> {
  await mkdir(model.into, { recursive: true });
  const files = await listModelFiles(model);
  for (const file of files) await download(model, file);
}

const accessOf = ({ repo, revision, hubUrl, token }: HubModel) => ({
  repo,
  revision,
  ...(hubUrl && { hubUrl }),
  ...(token && { accessToken: token }),
});

async function listModelFiles(model: HubModel): Promise<ListFileEntry[]> {
  const files: ListFileEntry[] = [];
  try {
    for await (const entry of listFiles({ ...accessOf(model), recursive: true })) {
      if (entry.type === 'file' && isModelFile(entry.path)) files.push(entry);
    }
  } catch (cause) {
    throw explain(model, cause);
  }
  const weights = files.some(({ path }) => path.endsWith('.safetensors'));
  if (!weights) throw new ModelError(`${model.repo} has no .safetensors files`);
  return files;
}

/** Renames the file to its final name only when it is complete and its size and hash are those that the hub gives. */
async function download(model: HubModel, { path, size, lfs }: ListFileEntry): Promise<void> {
  const target = join(model.into, path);
  await mkdir(dirname(target), { recursive: true });
  const there = await stat(target).catch(() => null);
  if (there?.size === size) return;
  const blob = await downloadFile({ ...accessOf(model), path, xet: false }).catch(cause => {
    throw explain(model, cause);
  });
  if (!blob) throw new ModelError(`${model.repo}: ${path} is listed but cannot be read`);
  const partial = `${target}.partial`;
  let doneBytes = 0;
  const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      doneBytes += chunk.length;
      model.onProgress?.({ path, doneBytes, totalBytes: size });
      yield chunk;
    }
  };
  await pipeline(Readable.fromWeb(blob.stream() as never), counted, createWriteStream(partial));
  if (doneBytes !== size)
    throw new ModelError(`${model.repo}: ${path} ended after ${doneBytes} of ${size} bytes`);
  if (lfs && (await hashFile(partial)) !== lfs.oid)
    throw new ModelError(`${model.repo}: ${path} does not have the sha256 that the hub names`);
  await rename(partial, target);
}

/** 401, 403 and 404 are user errors; others are passed on. */
function explain(model: HubModel, cause: unknown): unknown {
  const status = (cause as { statusCode?: number }).statusCode;
  const where = `${model.repo} at ${model.revision}${model.hubUrl ? ` on ${model.hubUrl}` : ''}`;
  if (status === 404) return new ModelError(`there is no model ${where}`, { cause });
  if (status === 401 || status === 403)
    return new ModelError(`${where} is not open to you: set HF_TOKEN, and accept its licence on the hub`, {
      cause,
    });
  return cause;
}
