// What every way to make a file has in common: which names a purpose allows, and that bytes without a row do not stay.
import { extname } from 'node:path';
import type { BlobInfo } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import type { Queryable } from '../store/database.ts';
import { type File, insertFile } from '../store/files.ts';

const JSONL_PURPOSES = ['fine-tune', 'batch'];

/** `param`: what named the file. */
export function checkExtension(purpose: string, filename: string, param: string): void {
  const extension = extname(filename).slice(1).toLowerCase();
  if (!JSONL_PURPOSES.includes(purpose) || extension === 'jsonl') return;
  throw new ApiError(
    'invalid_file',
    `Invalid extension '${extension}' for purpose '${purpose}'. Supported formats: "jsonl".`,
    { param },
  );
}

export interface FileOfBytes {
  id: string;
  projectId: string;
  purpose: string;
  filename: string;
  stored: BlobInfo;
  expiresAfterSeconds: number | null;
}

/** OpenAI's, where nothing else is asked for: files of other purposes stay. */
const lifetimeSeconds: Record<string, number> = { batch: 30 * 24 * 3600 };

/** Names stored bytes in the database. */
export function nameBytes(db: Queryable, { stored, ...file }: FileOfBytes): Promise<File> {
  const { sizeBytes: bytes, sha256, key: blobKey } = stored;
  const expiresAfterSeconds = file.expiresAfterSeconds ?? lifetimeSeconds[file.purpose] ?? null;
  return insertFile(db, { ...file, expiresAfterSeconds, bytes, sha256, blobKey });
}

/**
 * Does what names an object. The object does not stay when that fails, nor when the answer is of another object
 * (`isOwn` false): the one that an earlier, equal request has stored.
 */
export async function keepIfNamed<Answer>(
  deps: Deps,
  key: string,
  work: () => Promise<Answer>,
  isOwn: (answer: Answer) => boolean = () => true,
): Promise<Answer> {
  const remove = () => deps.blobs.delete(key).catch(() => undefined);
  try {
    const answer = await work();
    if (!isOwn(answer)) await remove();
    return answer;
  } catch (error) {
    await remove();
    throw error;
  }
}
