// Models as rows: base models, seen by every project, and fine-tuned ones, seen by their own and those that it is shared with. SQL only.
import type { Answers } from '../training/methods.ts';
import type { MethodName } from '../training/protocol.ts';
import type { Queryable } from './database.ts';

export interface StoredFile {
  /** Relative to the model's folder. */
  path: string;
  /** Of the object that holds it. */
  key: string;
  bytes: number;
  sha256: string;
}

export interface ModelRow {
  id: string;
  projectId: string | null;
  /** `elsewhere`: its name came with an imported job, its weights are not here. */
  kind: 'base' | 'adapter' | 'full' | 'elsewhere';
  architecture: string;
  /** What the files of the base model answer with; null where nobody has looked. */
  answers: Answers | null;
  /** The base that an adapter sits on, or a full model was trained from; null for a base model. */
  baseModel: string | null;
  jobId: string | null;
  step: number | null;
  ownedBy: string;
  files: StoredFile[];
  createdAt: Date;
}

/** `answers` is that of its base. */
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

/** Registers a base model, or gives one that is there its new files. */
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

/** A model that the project may use; null when there is none of that name, it is another project's, or it is not here. */
export async function findModel(db: Queryable, projectId: string, id: string): Promise<ModelRow | null> {
  const model = await findListedModel(db, projectId, id);
  return model?.kind === 'elsewhere' ? null : model;
}

/** As `findModel`, and those that are elsewhere. */
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

/** For the administration; null when it was deleted or never there. */
export async function findModelOfAnyProject(db: Queryable, id: string): Promise<ModelRow | null> {
  const { rows } = await db.query<ModelRow>(
    `select ${columns} from models where id = $1 and deleted_at is null`,
    [id],
  );
  return rows[0] ?? null;
}

/** By name alone, whoever it belongs to, deleted or not: for a job that has been allowed to use it. */
export async function readModel(db: Queryable, id: string): Promise<ModelRow | null> {
  const { rows } = await db.query<ModelRow>(`select ${columns} from models where id = $1`, [id]);
  return rows[0] ?? null;
}

/** The method of the job that made a model, whosever it is; null for a base model, and where no job here made it. */
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

/** First step of a deletion; its objects go next. The row stays, because jobs name it. Null: not there, or not the project's own. */
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
 * A job that has not ended reads a model, and an adapter that is not gone or is trained on needs the model that it sits on. Nothing in the inner
 * queries names the outer row: each is run once for a statement, not once for each model.
 */
const isNeeded = (id: string): string =>
  `(${isTrainedOn(id)}
  or ${id} in (
    select adapter.base_model from models as adapter where adapter.kind = 'adapter' and adapter.base_model is not null
      and (adapter.deleted_at is null or ${isTrainedOn('adapter.id')})))`;

/** Keys of a deleted model's objects that nothing which is still there uses. */
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

/** Deleted models that nothing needs any more and whose objects may still be there. */
export async function findDeletedModels(db: Queryable, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id from models as gone where deleted_at is not null and files <> '[]' and not ${isNeeded('gone.id')} limit $1`,
    [limit],
  );
  return rows.map(row => row.id);
}

/** Last step of a deletion. The row stays, because jobs name it. */
export async function forgetModelFiles(db: Queryable, id: string): Promise<void> {
  await db.query(`update models set files = '[]' where id = $1 and deleted_at is not null`, [id]);
}

/** Those of these keys that no model has among its files. */
export async function unnamedModelKeys(db: Queryable, keys: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    `select key from unnest($1::text[]) as key
     where not exists (
       select 1 from models where files @> jsonb_build_array(jsonb_build_object('key', key)))`,
    [keys],
  );
  return rows.map(({ key }) => key);
}
