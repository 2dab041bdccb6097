// Exports of models. SQL only. Leases on exports are in leases.ts.
import type { Compared, ExportFormat } from '../exporting/formats.ts';
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { toJsonb } from './jsonb.ts';

export type ExportStatus = 'queued' | 'in_progress' | 'succeeded' | 'failed';
export const ENDED_EXPORT_STATUSES: readonly ExportStatus[] = ['succeeded', 'failed'];

export interface ExportError {
  code: string;
  message: string;
}

export interface ModelExport {
  id: string;
  projectId: string;
  model: string;
  format: ExportFormat;
  status: ExportStatus;
  /** The exported file; null until it exists, and after it was deleted. */
  fileId: string | null;
  /** What the verification compared; null before it. */
  compared: Compared | null;
  largestDifference: number | null;
  error: ExportError | null;
  createdAt: Date;
  finishedAt: Date | null;
}

export type ExportKey = Pick<ModelExport, 'projectId' | 'model' | 'format'>;

const columns = `id, project_id as "projectId", model, format, status,
  (select files.id from files where files.id = file_id and deleted_at is null) as "fileId",
  compared, largest_difference as "largestDifference", error, created_at as "createdAt", finished_at as "finishedAt"`;

/** The latest export of this model and format; null if there is none. */
export async function findExport(db: Queryable, key: ExportKey): Promise<ModelExport | null> {
  const { rows } = await db.query<ModelExport>(
    `select ${columns} from model_exports where project_id = $1 and model = $2 and format = $3`,
    [key.projectId, key.model, key.format],
  );
  return rows[0] ?? null;
}

/**
 * The export of a model in a format, created if there is none. One that has ended is restarted when `again` is set, and when its file was
 * deleted. `begun`: it was created or restarted, so a worker has to be notified.
 */
export async function askForExport(
  db: Queryable,
  { projectId, model, format }: ExportKey,
  again: boolean,
): Promise<{ export: ModelExport; begun: boolean }> {
  const key = [projectId, model, format];
  const { rows: begun } = await db.query<ModelExport>(
    `insert into model_exports (id, project_id, model, format) values ($4, $1, $2, $3)
     on conflict (project_id, model, format) do update
       set status = 'queued', file_id = null, compared = null, largest_difference = null, error = null, crashes = 0,
         created_at = now(), started_at = null, finished_at = null
       where model_exports.status in ('succeeded', 'failed') and ($5 or (model_exports.status = 'succeeded'
         and not exists (select 1 from files where files.id = model_exports.file_id and deleted_at is null)))
     returning ${columns}`,
    [...key, newId('modelExport'), again],
  );
  if (begun[0]) return { export: begun[0], begun: true };
  return { export: (await findExport(db, { projectId, model, format }))!, begun: false };
}

export async function readExport(db: Queryable, id: string): Promise<ModelExport | null> {
  const { rows } = await db.query<ModelExport>(`select ${columns} from model_exports where id = $1`, [id]);
  return rows[0] ?? null;
}

export interface ExportResult {
  fileId: string;
  compared: Compared;
  largestDifference: number;
}

/** Call inside `fenced`. */
export async function endExport(
  db: Queryable,
  id: string,
  end: { result: ExportResult } | { error: ExportError },
): Promise<void> {
  const result = 'result' in end ? end.result : null;
  const error = 'error' in end ? toJsonb(end.error) : null;
  await db.query(
    `update model_exports set status = $2, file_id = $3, compared = $4, largest_difference = $5, error = $6, finished_at = now(),
       runner_id = null, lease_until = null
     where id = $1`,
    [
      id,
      result ? 'succeeded' : 'failed',
      result?.fileId ?? null,
      result?.compared ?? null,
      result?.largestDifference ?? null,
      error,
    ],
  );
}
