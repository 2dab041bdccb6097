// Models: base models, visible to every project, and fine-tuned ones, visible to their project and those they are shared with. SQL only.
import type { Answers } from '../training/methods.ts';
import type { MethodName } from '../training/protocol.ts';
import type { Queryable } from './database.ts';

export interface StoredFile {
  /** Relative to the model's folder. */
  path: string;
  /** Key of the object that holds it. */
  key: string;
  bytes: number;
  sha256: string;
}

export interface ModelRow {
  id: string;
  projectId: string | null;
  /** `elsewhere`: known by name from an imported job, without weights. */
  kind: 'base' | 'adapter' | 'full' | 'elsewhere';
  architecture: string;
  /** Kind of output of the base model, by its files; null if registered before this was determined. */
  answers: Answers | null;
  /** The model that an adapter applies to, or a full model was trained from; null for a base model. */
  baseModel: string | null;
  jobId: string | null;
  step: number | null;
  ownedBy: string;
  files: StoredFile[];
  createdAt: Date;
}

/** `answers` is copied from the base model. */
export type NewModel = Omit<ModelRow, 'createdAt' | 'answers'>;

const columns = `id, project_id as "projectId", kind, architecture, answers, base_model as "baseModel", job_id as "jobId", step,
  owned_by as "ownedBy", files, created_at as "createdAt"`;

const visible = `deleted_at is null and (project_id is null or project_id = $1 or exists (
  select 1 from model_permissions where model_id = models.id and model_permissions.project_id = $1))`;

export async function insertModel(db: Queryable, model: NewModel): Promise<void> {
  await db.query(
    `insert into models (id, project_id, kind, architecture, base_model, job_id, step, owned_by, files, answers)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, (select answers from models where id = $5))`,
    [
      model.id,
      model.projectId,
      model.kind,
      model.architecture,
      model.baseModel,
      model.jobId,
      model.step,
      model.ownedBy,
      JSON.stringify(model.files),
    ],
  );
}

/** Registers a base model, or replaces the files of an existing one. */
export async function upsertBaseModel(
  db: Queryable,
  model: Pick<NewModel, 'id' | 'architecture' | 'ownedBy' | 'files'> & { answers?: Answers },
): Promise<void> {
  await db.query(
    `insert into models (id, kind, architecture, owned_by, files, answers) values ($1, 'base', $2, $3, $4, $5)
     on conflict (id) do update
       set architecture = excluded.architecture, files = excluded.files, deleted_at = null, kind = 'base',
         project_id = null, owned_by = excluded.owned_by, answers = excluded.answers
       where models.kind in ('base', 'elsewhere')`,
    [model.id, model.architecture, model.ownedBy, JSON.stringify(model.files), model.answers ?? null],
  );
}

/** A model that the project may use; null when it does not exist, is not visible to the project, or has no weights here. */
export async function findModel(db: Queryable, projectId: string, id: string): Promise<ModelRow | null> {
  const model = await findListedModel(db, projectId, id);
  return model?.kind === 'elsewhere' ? null : model;
}

/** Like `findModel`, including models of kind `elsewhere`. */
export async function findListedModel(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<ModelRow | null> {
  const { rows } = await db.query<ModelRow>(`select ${columns} from models where id = $2 and ${visible}`, [
    projectId,
    id,
  ]);
  return rows[0] ?? null;
}

/** Whatever its project, for administration; null when it does not exist or was deleted. */
export async function findModelOfAnyProject(db: Queryable, id: string): Promise<ModelRow | null> {
  const { rows } = await db.query<ModelRow>(
    `select ${columns} from models where id = $1 and deleted_at is null`,
    [id],
  );
  return rows[0] ?? null;
}

/** Whatever its project, deleted or not: for a job that was allowed to use it when it was created. */
export async function readModel(db: Queryable, id: string): Promise<ModelRow | null> {
  const { rows } = await db.query<ModelRow>(`select ${columns} from models where id = $1`, [id]);
  return rows[0] ?? null;
}

/** The method of the job that trained a model; null for a base model, and for one that no job of this server trained. */
export async function findMethod(db: Queryable, id: string): Promise<MethodName | null> {
  const { rows } = await db.query<{ method: MethodName }>(
    "select jobs.method->>'type' as method from models join jobs on jobs.id = models.job_id where models.id = $1",
    [id],
  );
  return rows[0]?.method ?? null;
}

/** Base models first, then by time of creation. */
export async function listModels(db: Queryable, projectId: string): Promise<ModelRow[]> {
  const { rows } = await db.query<ModelRow>(
    `select ${columns} from models where ${visible} order by kind <> 'base', created_at, id`,
    [projectId],
  );
  return rows;
}

export async function listBaseModels(db: Queryable): Promise<ModelRow[]> {
  const { rows } = await db.query<ModelRow>(
    `select ${columns} from models where kind = 'base' and deleted_at is null order by id`,
  );
  return rows;
}

/** First step of a deletion; its objects are deleted next. The row stays, because jobs refer to it. Null: not a model of the project. */
export async function markModelDeleted(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<ModelRow | null> {
  const { rows } = await db.query<ModelRow>(
    `update models set deleted_at = now() where id = $2 and project_id = $1 and deleted_at is null returning ${columns}`,
    [projectId, id],
  );
  return rows[0] ?? null;
}

const isTrainedOn = (id: string): string =>
  `${id} in (select model from jobs where status in ('validating_files', 'queued', 'running', 'paused'))`;

/**
 * SQL: whether an active job reads the model, or an adapter on it is still in use. The subqueries are uncorrelated, so each runs once per
 * statement, not once per model.
 */
const isNeeded = (id: string): string =>
  `(${isTrainedOn(id)}
  or ${id} in (
    select adapter.base_model from models as adapter where adapter.kind = 'adapter' and adapter.base_model is not null
      and (adapter.deleted_at is null or ${isTrainedOn('adapter.id')})))`;

/** Object keys of a deleted model that no other model, job or checkpoint still needs. */
export async function unusedModelKeys(db: Queryable, modelId: string): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    `select file->>'key' as key from models as gone, jsonb_array_elements(files) as file
     where gone.id = $1 and not ${isNeeded('gone.id')}
       and not exists (
         select 1 from models as other where (deleted_at is null or ${isNeeded('other.id')}) and id <> $1
           and files @> jsonb_build_array(jsonb_build_object('key', file->>'key')))
       and not exists (
         select 1 from job_checkpoints join jobs on jobs.id = job_checkpoints.job_id
         where job_checkpoints.job_id = gone.job_id and status in ('running', 'queued', 'paused')
           and files @> jsonb_build_array(jsonb_build_object('key', file->>'key')))`,
    [modelId],
  );
  return rows.map(row => row.key);
}

/** Deleted models that are no longer needed and whose objects may still exist. */
export async function findDeletedModels(db: Queryable, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id from models as gone where deleted_at is not null and files <> '[]' and not ${isNeeded('gone.id')} limit $1`,
    [limit],
  );
  return rows.map(row => row.id);
}

/** Last step of a deletion. The row stays, because jobs refer to it. */
export async function forgetModelFiles(db: Queryable, id: string): Promise<void> {
  await db.query(`update models set files = '[]' where id = $1 and deleted_at is not null`, [id]);
}

/** Those of the object keys that no model refers to. */
export async function unnamedModelKeys(db: Queryable, keys: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    `select key from unnest($1::text[]) as key
     where not exists (
       select 1 from models where files @> jsonb_build_array(jsonb_build_object('key', key)))`,
    [keys],
  );
  return rows.map(({ key }) => key);
}
