// Admin keys: they administer all projects and give no access to what is in one. Only their SHA-256 is stored. SQL only.
import { newId } from '../ids.ts';
import { hashKey, hintOf } from './api-keys.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

export interface AdminKey {
  id: string;
  name: string;
  hint: string;
  createdAt: Date;
  lastUsedAt: Date | null;
  expiresAt: Date | null;
}

const columns = `id, name, hint, created_at as "createdAt", last_used_at as "lastUsedAt", expires_at as "expiresAt"`;

/** Null when the key already exists. */
export async function insertAdminKey(
  db: Queryable,
  key: { name: string; secret: string; expiresInSeconds?: number | null },
): Promise<AdminKey | null> {
  const { rows } = await db.query<AdminKey>(
    `insert into admin_keys (id, name, hash, hint, expires_at)
     values ($1, $2, $3, $4, date_trunc('second', now()) + make_interval(secs => $5))
     on conflict (hash) do nothing returning ${columns}`,
    [newId('apiKey'), key.name, hashKey(key.secret), hintOf(key.secret), key.expiresInSeconds ?? null],
  );
  return rows[0] ?? null;
}

/** The id of a valid key; null when it is unknown, revoked or expired. Updates `last_used_at` at most once a minute. */
export async function findAdminCaller(db: Queryable, secret: string): Promise<string | null> {
  const { rows } = await db.query<{ id: string; stale: boolean }>(
    `select id, coalesce(last_used_at < now() - interval '1 minute', true) as stale from admin_keys
     where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())`,
    [hashKey(secret)],
  );
  const found = rows[0];
  if (found?.stale) await db.query('update admin_keys set last_used_at = now() where id = $1', [found.id]);
  return found?.id ?? null;
}

export async function findAdminKey(db: Queryable, id: string): Promise<AdminKey | null> {
  const { rows } = await db.query<AdminKey>(
    `select ${columns} from admin_keys where id = $1 and revoked_at is null`,
    [id],
  );
  return rows[0] ?? null;
}

/** By time of creation, expired keys included. An unknown `after` gives an empty page. */
export async function listAdminKeys(
  db: Queryable,
  { after, limit, order }: PageRequest & { order: 'asc' | 'desc' },
): Promise<Page<AdminKey>> {
  const { rows } = await db.query<AdminKey>(
    `select ${columns} from admin_keys
     where revoked_at is null and ($1::text is null
       or (created_at, id) ${order === 'asc' ? '>' : '<'} (select created_at, id from admin_keys where id = $1))
     order by created_at ${order}, id ${order} limit $2`,
    [after ?? null, limit + 1],
  );
  return toPage(rows, limit);
}

/** False when the key does not exist or is already revoked. */
export async function revokeAdminKey(db: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'update admin_keys set revoked_at = now() where id = $1 and revoked_at is null',
    [id],
  );
  return rowCount === 1;
}
