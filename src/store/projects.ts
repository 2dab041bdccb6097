// Projects: whom files, jobs and models belong to. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';

export interface Project {
  id: string;
  name: string;
  organizationId: string;
}

const DEFAULT = { id: 'proj_default', name: 'default', organizationId: 'org-anneal' };

const columns = `id, name, organization_id as "organizationId"`;

/** The project that the first key belongs to; made when it is not there. */
export async function ensureDefaultProject(db: Queryable): Promise<Project> {
  await db.query(
    'insert into projects (id, name, organization_id) values ($1, $2, $3) on conflict (id) do nothing',
    [DEFAULT.id, DEFAULT.name, DEFAULT.organizationId],
  );
  const { rows } = await db.query<Project>(`select ${columns} from projects where id = $1`, [DEFAULT.id]);
  return rows[0]!;
}

export async function insertProject(
  db: Queryable,
  project: { name: string; organizationId?: string },
): Promise<Project> {
  const { rows } = await db.query<Project>(
    `insert into projects (id, name, organization_id) values ($1, $2, $3) returning ${columns}`,
    [newId('project'), project.name, project.organizationId ?? newId('organization')],
  );
  return rows[0]!;
}
