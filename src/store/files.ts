// Uploaded and produced files, each with the key of the object that holds its bytes. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, placeOf, toPage } from './pages.ts';

export type FileStatus = 'uploaded' | 'processed' | 'error';

export interface File {
  id: string;
  projectId: string;
  purpose: string;
  filename: string;
  bytes: number;
  sha256: string;
  blobKey: string;
  status: FileStatus;
  statusDetails: string | null;
  createdAt: Date;
  expiresAt: Date | null;
}

const columns = `id, project_id as "projectId", purpose, filename, bytes, sha256, blob_key as "blobKey", status,
  status_details as "statusDetails", created_at as "createdAt", expires_at as "expiresAt"`;

const alive = 'deleted_at is null and (expires_at is null or expires_at > now())';

export interface NewFile {
  /** Generated before the bytes are stored, because the object key contains it. */
  id: string;
  projectId: string;
  purpose: string;
  filename: string;
  bytes: number;
  sha256: string;
  blobKey: string;
  status?: FileStatus;
  expiresAfterSeconds?: number | null;
}

export function newFileId(): string {
  return newId('file');
}

export function fileBlobKey(id: string): string {
  return `files/${id}`;
}

export async function insertFile(db: Queryable, file: NewFile): Promise<File> {
  const { rows } = await db.query<File>(
    `insert into files (id, project_id, purpose, filename, bytes, sha256, blob_key, status, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, date_trunc('second', now()) + make_interval(secs => $9))
     returning ${columns}`,
    [
      file.id,
      file.projectId,
      file.purpose,
      file.filename,
      file.bytes,
      file.sha256,
      file.blobKey,
      file.status ?? 'processed',
      file.expiresAfterSeconds ?? null,
    ],
  );
  return rows[0]!;
}

export async function findFile(db: Queryable, projectId: string, id: string): Promise<File | null> {
  const { rows } = await db.query<File>(
    `select ${columns} from files where id = $1 and project_id = $2 and ${alive}`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

export interface FileFilter extends PageRequest {
  projectId: string;
  purpose?: string | undefined;
  order: 'asc' | 'desc';
}

/** By time of creation. An unknown `after` gives an empty page. */
export async function listFiles(db: Queryable, filter: FileFilter): Promise<Page<File>> {
  const beyond = filter.order === 'asc' ? '>' : '<';
  const place = placeOf({ table: 'files', id: '$3', list: '$1', column: 'project_id' });
  const { rows } = await db.query<File>(
    `select ${columns} from files
     where project_id = $1 and ${alive} and ($2::text is null or purpose = $2)
       and ($3::text is null or (created_at, id) ${beyond} ${place})
     order by created_at ${filter.order}, id ${filter.order}
     limit $4`,
    [filter.projectId, filter.purpose ?? null, filter.after ?? null, filter.limit + 1],
  );
  return toPage(rows, filter.limit);
}

/** First step of a deletion. The object is deleted next, then the row. */
export async function markFileDeleted(db: Queryable, projectId: string, id: string): Promise<File | null> {
  const { rows } = await db.query<File>(
    `update files set deleted_at = now() where id = $1 and project_id = $2 and ${alive} returning ${columns}`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

/** SQL: whether an active job or batch reads the file. */
const isRead = (id: string): string =>
  `(exists (
      select 1 from jobs where status in ('validating_files', 'queued', 'running', 'paused')
        and ${id} in (training_file, validation_file))
    or exists (
      select 1 from batches where status in ('validating', 'in_progress', 'finalizing', 'cancelling')
        and input_file_id = ${id}))`;

export async function isFileRead(db: Queryable, id: string): Promise<boolean> {
  const { rows } = await db.query<{ read: boolean }>(`select ${isRead('$1')} as read`, [id]);
  return rows[0]!.read;
}

/** Marks expired files as deleted and returns them, with files whose deletion was not completed. Leaves out files in use. */
export async function markRemovableFiles(db: Queryable, limit: number): Promise<File[]> {
  const { rows } = await db.query<File>(
    `update files set deleted_at = coalesce(deleted_at, now())
     where id in (
       select id from files
       where (deleted_at is not null or (deleted_at is null and expires_at <= now())) and not ${isRead('files.id')}
       order by created_at limit $1 for update skip locked)
     returning ${columns}`,
    [limit],
  );
  return rows;
}

/** Last step of a deletion. */
export async function removeFile(db: Queryable, id: string): Promise<void> {
  await db.query('delete from files where id = $1 and deleted_at is not null', [id]);
}

/** Those of the object keys (`files/{id}`) that no row refers to. */
export async function unnamedFileKeys(db: Queryable, keys: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    `select key from unnest($1::text[]) as key
     where not exists (select 1 from files where id = split_part(key, '/', 2) and blob_key = key)`,
    [keys],
  );
  return rows.map(({ key }) => key);
}
