// Service accounts: owners of API keys that programs use. SQL only.
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

async function readServiceAccount(
  db: Queryable,
  { projectId, id, lock }: { projectId: string; id: string; lock: '' | 'for share' },
): Promise<ServiceAccount | null> {
  const { rows } = await db.query<ServiceAccount>(
    `select ${columns} from service_accounts where id = $1 and project_id = $2 and deleted_at is null ${lock}`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

export const findServiceAccount = (db: Queryable, projectId: string, id: string) =>
  readServiceAccount(db, { projectId, id, lock: '' });

/** Like `findServiceAccount`, and locks the row so that the account cannot be deleted before the transaction ends. */
export const holdServiceAccount = (tx: Queryable, projectId: string, id: string) =>
  readServiceAccount(tx, { projectId, id, lock: 'for share' });

/** Oldest first. An unknown `after` gives an empty page. */
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

/** Undefined fields keep their value. Null when there is no such account. */
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

/**
 * Also revokes the account's keys and returns their ids; null when there is no such account. Call in a transaction. There are two
 * statements, because only the second one sees a key that was committed while the first waited for `holdServiceAccount`.
 */
export async function deleteServiceAccount(
  tx: Queryable,
  projectId: string,
  id: string,
): Promise<string[] | null> {
  const { rowCount } = await tx.query(
    'update service_accounts set deleted_at = now() where id = $1 and project_id = $2 and deleted_at is null',
    [id, projectId],
  );
  if (rowCount === 0) return null;
  const { rows } = await tx.query<{ id: string }>(
    'update api_keys set revoked_at = now() where service_account_id = $1 and revoked_at is null returning id',
    [id],
  );
  return rows.map(row => row.id);
}
