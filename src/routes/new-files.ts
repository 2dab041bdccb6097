// Shared by the routes that create files: allowed file extensions, and deletion of stored bytes if no row refers to them.
import { extname } from 'node:path';
import type { BlobInfo } from '../blobs/blobs.ts';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import type { Queryable } from '../store/database.ts';
import { type File, insertFile } from '../store/files.ts';

const JSONL_PURPOSES = ['fine-tune', 'batch'];

/** `param`: the request parameter with the file's name. */
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

/** OpenAI's default expiry by purpose; files of other purposes do not expire. */
const lifetimeSeconds: Record<string, number> = { batch: 30 * 24 * 3600 };

/** Inserts the row for stored bytes. */
export function nameBytes(db: Queryable, { stored, ...file }: FileOfBytes): Promise<File> {
  const { sizeBytes: bytes, sha256, key: blobKey } = stored;
  const expiresAfterSeconds = file.expiresAfterSeconds ?? lifetimeSeconds[file.purpose] ?? null;
  return insertFile(db, { ...file, expiresAfterSeconds, bytes, sha256, blobKey });
}

/**
 * Runs `work`, which inserts the row of a stored object. Deletes the object if that fails, or if the response is about the object of an
 * earlier, identical request (`isOwn` false).
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
