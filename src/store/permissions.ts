// Permissions of projects to use a fine-tuned model of another project. SQL only; models.ts applies them.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, placeOf, toPage } from './pages.ts';

export interface Permission {
  id: string;
  modelId: string;
  projectId: string;
  createdAt: Date;
}

const columns = `id, model_id as "modelId", project_id as "projectId", created_at as "createdAt"`;

/** In the order of `projectIds`. A project that already has a permission keeps it. */
export async function insertPermissions(
  db: Queryable,
  modelId: string,
  projectIds: string[],
): Promise<(Permission & { isNew: boolean })[]> {
  const { rows } = await db.query<Permission & { isNew: boolean }>(
    `with added as (
       insert into model_permissions (id, model_id, project_id)
       select id, $1, project from unnest($2::text[], $3::text[]) as wanted (id, project)
       on conflict (model_id, project_id) do update set model_id = excluded.model_id
       returning *)
     select ${columns}, id = any($2) as "isNew" from added order by array_position($3, project_id)`,
    [modelId, projectIds.map(() => newId('permission')), projectIds],
  );
  return rows;
}

export interface PermissionFilter extends PageRequest {
  projectId?: string | undefined;
  order: 'asc' | 'desc';
}

/** By time of creation. */
export async function listPermissions(
  db: Queryable,
  modelId: string,
  filter: PermissionFilter,
): Promise<Page<Permission>> {
  const beyond = filter.order === 'asc' ? '>' : '<';
  const place = placeOf({ table: 'model_permissions', id: '$3', list: '$1', column: 'model_id' });
  const { rows } = await db.query<Permission>(
    `select ${columns} from model_permissions
     where model_id = $1 and ($2::text is null or project_id = $2)
       and ($3::text is null or (created_at, id) ${beyond} ${place})
     order by created_at ${filter.order}, id ${filter.order}
     limit $4`,
    [modelId, filter.projectId ?? null, filter.after ?? null, filter.limit + 1],
  );
  return toPage(rows, filter.limit);
}

/** Null when the model has no permission with this id. */
export async function deletePermission(
  db: Queryable,
  modelId: string,
  id: string,
): Promise<Permission | null> {
  const { rows } = await db.query<Permission>(
    `delete from model_permissions where id = $1 and model_id = $2 returning ${columns}`,
    [id, modelId],
  );
  return rows[0] ?? null;
}
