// Multi-part uploads and their parts. SQL only. The object key of a part is derived from its id.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';

export type UploadStatus = 'pending' | 'completed' | 'cancelled' | 'expired';

export interface Upload {
  id: string;
  projectId: string;
  filename: string;
  purpose: string;
  bytes: number;
  mimeType: string;
  expiresAfterSeconds: number | null;
  status: UploadStatus;
  createdAt: Date;
  expiresAt: Date;
}

export interface UploadPart {
  id: string;
  uploadId: string;
  bytes: number;
  createdAt: Date;
}

const columns = `id, project_id as "projectId", filename, purpose, bytes, mime_type as "mimeType",
  expires_after_seconds as "expiresAfterSeconds",
  case when status = 'pending' and expires_at <= now() then 'expired' else status end as status,
  created_at as "createdAt", expires_at as "expiresAt"`;

const partColumns = `id, upload_id as "uploadId", bytes, created_at as "createdAt"`;

export function newPartId(): string {
  return newId('uploadPart');
}

/** Key prefix of all objects of an upload. */
export function uploadBlobPrefix(uploadId: string): string {
  return `uploads/${uploadId}/`;
}

export function partBlobKey(uploadId: string, partId: string): string {
  return uploadBlobPrefix(uploadId) + partId;
}

export interface NewUpload
  extends Pick<Upload, 'projectId' | 'filename' | 'purpose' | 'bytes' | 'mimeType' | 'expiresAfterSeconds'> {
  lifetimeSeconds: number;
}

export async function insertUpload(db: Queryable, upload: NewUpload): Promise<Upload> {
  const { rows } = await db.query<Upload>(
    `insert into uploads (id, project_id, filename, purpose, bytes, mime_type, expires_after_seconds, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, date_trunc('second', now()) + make_interval(secs => $8))
     returning ${columns}`,
    [
      newId('upload'),
      upload.projectId,
      upload.filename,
      upload.purpose,
      upload.bytes,
      upload.mimeType,
      upload.expiresAfterSeconds,
      upload.lifetimeSeconds,
    ],
  );
  return rows[0]!;
}

export async function findUpload(db: Queryable, projectId: string, id: string): Promise<Upload | null> {
  const { rows } = await db.query<Upload>(
    `select ${columns} from uploads where id = $1 and project_id = $2`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

/** Null when the upload is not pending, or its parts would exceed `mostBytes` in total. */
export async function insertPart(
  db: Queryable,
  part: Pick<UploadPart, 'id' | 'uploadId' | 'bytes'> & { mostBytes: number },
): Promise<UploadPart | null> {
  const { rows } = await db.query<UploadPart>(
    `with upload as materialized (
       select id from uploads where id = $2 and status = 'pending' and expires_at > now() for update)
     insert into upload_parts (id, upload_id, bytes)
     select $1, upload.id, $3::bigint from upload
     where (select coalesce(sum(bytes), 0) from upload_parts where upload_id = $2) + $3::bigint <= $4::bigint
     returning ${partColumns}`,
    [part.id, part.uploadId, part.bytes, part.mostBytes],
  );
  return rows[0] ?? null;
}

/** In the order of `ids`; unknown ids are left out. */
export async function findParts(db: Queryable, uploadId: string, ids: string[]): Promise<UploadPart[]> {
  const { rows } = await db.query<UploadPart>(
    `select ${partColumns} from upload_parts join unnest($2::text[]) with ordinality as asked (part, place)
       on asked.part = upload_parts.id
     where upload_id = $1 order by asked.place`,
    [uploadId, ids],
  );
  return rows;
}

/** Null when it is no longer pending, so of two concurrent calls one fails. */
export async function endUpload(
  db: Queryable,
  id: string,
  end: { status: 'completed'; fileId: string } | { status: 'cancelled' },
): Promise<Upload | null> {
  const { rows } = await db.query<Upload>(
    `update uploads set status = $2, file_id = $3 where id = $1 and status = 'pending' returning ${columns}`,
    [id, end.status, end.status === 'completed' ? end.fileId : null],
  );
  return rows[0] ?? null;
}

/** Uploads that expired more than `graceSeconds` ago, so that no request uses them any more. Pending ones become expired. */
export async function expireUploads(db: Queryable, graceSeconds: number, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads set status = case when status = 'pending' then 'expired' else status end
     where id in (
       select id from uploads where cleaned_at is null and expires_at <= now() - make_interval(secs => $1)
       order by expires_at limit $2 for update skip locked)
     returning id`,
    [graceSeconds, limit],
  );
  return rows.map(row => row.id);
}

/** Call after its objects were deleted. */
export async function markUploadCleaned(db: Queryable, id: string): Promise<void> {
  await db.query(
    `with cleaned as (update uploads set cleaned_at = now() where id = $1 returning id)
     delete from upload_parts using cleaned where upload_id = cleaned.id`,
    [id],
  );
}
