// Downloads the files of a model from a Hugging Face hub, or a mirror that speaks its API, into a folder. It knows no database.
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
  /** Made when it is not there; whole files in it are not downloaded again. */
  readonly into: string;
  onProgress?(transfer: Transfer): void;
}

/** Throws ModelError when the model cannot be read or lacks what it needs. */
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

/** A file appears under its name only when it is whole and is what the hub says it is. */
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

/** 401, 403 and 404 are the user's to mend; everything else stays what it is. */
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
