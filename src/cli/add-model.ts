// Adds a Hugging Face model folder as a base model: checks it, stores its files as blobs and inserts the model into the database.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { loadTokenizer } from '../data/tokenizer.ts';
import type { Deps } from '../deps.ts';
import { isModelFile } from '../formats/model-folder.ts';
import { ModelError } from '../models/model-error.ts';
import { type Model, openModel } from '../models/registry.ts';
import { meaningOfModel } from '../serving/classifier.ts';
import { readModel, type StoredFile, upsertBaseModel } from '../store/models.ts';
import type { Answers } from '../training/methods.ts';
import { hashFile } from './file-hash.ts';

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export interface AddedModel {
  readonly id: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly sizeBytes: number;
  /** Tensors of heads in the files that are not used. */
  readonly leftOut: readonly string[];
  /** False when the same files were already added. */
  readonly changed: boolean;
}

export interface Transfer {
  readonly path: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

type Needs = Pick<Deps, 'pool' | 'blobs'>;

/** Throws ModelError when the folder cannot be used. Files that are already stored are hashed but not uploaded again. */
export async function registerBaseModel(
  deps: Needs,
  folder: string,
  id = basename(resolve(folder)),
  onProgress: (transfer: Transfer) => void = () => {},
): Promise<AddedModel> {
  if (!ID.test(id))
    throw new ModelError(
      `"${id}" cannot be a model's id: 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first`,
    );
  const model = await openModel(folder);
  await loadTokenizer(folder);
  const files = await describeFiles(folder, id);
  const sizeBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const { architecture, parameters } = model;
  const leftOut = Object.keys(model.leftOut);
  const added = { id, architecture, parameters, sizeBytes, leftOut };
  const known = await readModel(deps.pool, id);
  if (known && known.kind !== 'base' && known.kind !== 'elsewhere')
    throw new ModelError(`${id} is the name of a fine-tuned model`);
  const answers = answersOfFiles(model);
  if (known?.kind === 'base' && known.answers === answers && sameFiles(known.files, files))
    return { ...added, changed: false };
  await storeFiles(deps, folder, files, onProgress);
  await upsertBaseModel(deps.pool, { id, architecture, answers, ownedBy: 'anneal', files });
  return { ...added, changed: true };
}

function answersOfFiles(model: Model): Answers {
  if (model.outputWeight !== null) return 'text';
  return meaningOfModel(model) ? 'classes' : 'vectors';
}

export interface RefusedFolder {
  readonly folder: string;
  readonly reason: string;
}

/** Adds each subfolder with a config.json under its name; returns what was added or already there, and the errors of the others. */
export async function registerModelsIn(
  deps: Needs,
  directory: string,
): Promise<{ added: AddedModel[]; refused: RefusedFolder[] }> {
  const added: AddedModel[] = [];
  const refused: RefusedFolder[] = [];
  for (const name of await modelFolders(directory)) {
    const folder = join(directory, name);
    try {
      added.push(await registerBaseModel(deps, folder, name));
    } catch (error) {
      if (!isUnusable(error)) throw error;
      refused.push({ folder, reason: (error as Error).message });
    }
  }
  return { added, refused };
}

/** Errors caused by the folder: rejected by an architecture or tokenizer, truncated or unreadable files. */
const isUnusable = (error: unknown): boolean =>
  error instanceof ModelError ||
  error instanceof SyntaxError ||
  ['ENOENT', 'EACCES', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

async function modelFolders(directory: string): Promise<string[]> {
  const entries = await readdir(directory).catch(error => {
    throw new ModelError(`the folder of base models (ANNEAL_MODELS_DIR) cannot be read: ${error.message}`, {
      cause: error,
    });
  });
  const isModel = (name: string) =>
    stat(join(directory, name, 'config.json')).then(
      () => true,
      () => false,
    );
  const found = await Promise.all(entries.sort().map(async name => ((await isModel(name)) ? [name] : [])));
  return found.flat();
}

/** The files of a version share a prefix derived from their hashes, so that a blob is never overwritten. */
async function describeFiles(folder: string, id: string): Promise<StoredFile[]> {
  const names = (await readdir(folder, { recursive: true })).filter(isModelFile).sort();
  const files = await Promise.all(
    names.map(async path => ({
      path,
      bytes: (await stat(join(folder, path))).size,
      sha256: await hashFile(join(folder, path)),
    })),
  );
  const version = createHash('sha256').update(JSON.stringify(files)).digest('hex').slice(0, 12);
  return files.map(file => ({ ...file, key: `models/${id}/${version}/${file.path}` }));
}

async function storeFiles(
  deps: Needs,
  folder: string,
  files: StoredFile[],
  onProgress: (transfer: Transfer) => void,
): Promise<void> {
  for (const { path, key, bytes, sha256 } of files) {
    if ((await deps.blobs.size(key)) === bytes) continue;
    const counted = async function* () {
      let doneBytes = 0;
      for await (const chunk of createReadStream(join(folder, path))) {
        doneBytes += chunk.length;
        onProgress({ path, doneBytes, totalBytes: bytes });
        yield chunk;
      }
    };
    const stored = await deps.blobs.put(key, Readable.from(counted(), { objectMode: false }));
    if (stored.sha256 !== sha256) throw new Error(`${path} changed while it was being stored`);
  }
}

const sameFiles = (known: StoredFile[], files: StoredFile[]): boolean => {
  const keys = (list: StoredFile[]) =>
    list
      .map(({ key }) => key)
      .sort()
      .join('\n');
  return keys(known) === keys(files);
};
