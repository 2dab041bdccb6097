// Projects, which own files, jobs and models. They are archived, never deleted. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

export interface Project {
  id: string;
  name: string;
  organizationId: string;
  createdAt: Date;
  archivedAt: Date | null;
}

/** An installation is one organization. */
export const ORGANIZATION_ID = 'org-anneal';
export const DEFAULT_PROJECT_ID = 'proj_default';

const columns = `id, name, organization_id as "organizationId", created_at as "createdAt", archived_at as "archivedAt"`;

/** The project of the first key, created if it does not exist. */
export async function ensureDefaultProject(db: Queryable): Promise<Project> {
  await db.query(
    `insert into projects (id, name, organization_id) values ($1, 'default', $2) on conflict (id) do nothing`,
    [DEFAULT_PROJECT_ID, ORGANIZATION_ID],
  );
  return (await findProject(db, DEFAULT_PROJECT_ID))!;
}

export async function insertProject(db: Queryable, { name }: { name: string }): Promise<Project> {
  const { rows } = await db.query<Project>(
    `insert into projects (id, name, organization_id) values ($1, $2, $3) returning ${columns}`,
    [newId('project'), name, ORGANIZATION_ID],
  );
  return rows[0]!;
}

export async function findProject(db: Queryable, id: string): Promise<Project | null> {
  const { rows } = await db.query<Project>(`select ${columns} from projects where id = $1`, [id]);
  return rows[0] ?? null;
}

/** Serializes transactions that read and then change a project's settings. */
export async function lockProject(tx: Queryable, id: string): Promise<void> {
  await tx.query('select 1 from projects where id = $1 for no key update', [id]);
}

/** Oldest first. An unknown `after` gives an empty page. */
export async function listProjects(
  db: Queryable,
  { after, limit, includeArchived }: PageRequest & { includeArchived: boolean },
): Promise<Page<Project>> {
  const { rows } = await db.query<Project>(
    `select ${columns} from projects
     where ($1 or archived_at is null)
       and ($2::text is null or (created_at, id) > (select created_at, id from projects where id = $2))
     order by created_at, id limit $3`,
    [includeArchived, after ?? null, limit + 1],
  );
  return toPage(rows, limit);
}

/** Null when the project does not exist or is archived. */
export async function renameProject(db: Queryable, id: string, name: string): Promise<Project | null> {
  const { rows } = await db.query<Project>(
    `update projects set name = $2 where id = $1 and archived_at is null returning ${columns}`,
    [id, name],
  );
  return rows[0] ?? null;
}

/** Null when the project does not exist or is already archived. */
export async function archiveProject(db: Queryable, id: string): Promise<Project | null> {
  const { rows } = await db.query<Project>(
    `update projects set archived_at = now() where id = $1 and archived_at is null returning ${columns}`,
    [id],
  );
  return rows[0] ?? null;
}
