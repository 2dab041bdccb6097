// Service accounts: what the keys of a program belong to. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

export interface ServiceAccount {
  id: string;
  projectId: string;
  name: string;
  role: 'owner' | 'member' | 'none';
  createdAt: Date;
}

const columns = `id, project_id as "projectId", name, role, created_at as "createdAt"`;

export async function insertServiceAccount(
  db: Queryable,
  account: Pick<ServiceAccount, 'projectId' | 'name' | 'role'>,
): Promise<ServiceAccount> {
  const { rows } = await db.query<ServiceAccount>(
    `insert into service_accounts (id, project_id, name, role) values ($1, $2, $3, $4) returning ${columns}`,
    [newId('serviceAccount'), account.projectId, account.name, account.role],
  );
  return rows[0]!;
}

export async function findServiceAccount(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<ServiceAccount | null> {
  const { rows } = await db.query<ServiceAccount>(
    `select ${columns} from service_accounts where id = $1 and project_id = $2 and deleted_at is null`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

/** Oldest first. A page after an account that is not there is empty. */
export async function listServiceAccounts(
  db: Queryable,
  { projectId, after, limit }: PageRequest & { projectId: string },
): Promise<Page<ServiceAccount>> {
  const { rows } = await db.query<ServiceAccount>(
    `select ${columns} from service_accounts
     where project_id = $1 and deleted_at is null
       and ($2::text is null or (created_at, id) > (select created_at, id from service_accounts where id = $2))
     order by created_at, id limit $3`,
    [projectId, after ?? null, limit + 1],
  );
  return toPage(rows, limit);
}

/** What is left out stays. Null when there is no such account. */
export async function updateServiceAccount(
  db: Queryable,
  account: {
    projectId: string;
    id: string;
    name?: string | undefined;
    role?: 'owner' | 'member' | undefined;
  },
): Promise<ServiceAccount | null> {
  const { rows } = await db.query<ServiceAccount>(
    `update service_accounts set name = coalesce($3, name), role = coalesce($4, role)
     where id = $1 and project_id = $2 and deleted_at is null returning ${columns}`,
    [account.id, account.projectId, account.name ?? null, account.role ?? null],
  );
  return rows[0] ?? null;
}

/** Its keys end with it. Returns their ids; null when there is no such account. */
export async function deleteServiceAccount(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<string[] | null> {
  const { rows } = await db.query<{ keys: string[] }>(
    `with account as (
       update service_accounts set deleted_at = now()
       where id = $1 and project_id = $2 and deleted_at is null returning id),
     keys as (
       update api_keys set revoked_at = now() from account
       where service_account_id = account.id and revoked_at is null returning api_keys.id)
     select array(select id from keys) as keys from account`,
    [id, projectId],
  );
  return rows[0]?.keys ?? null;
}
