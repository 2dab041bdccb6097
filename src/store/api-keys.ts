// API keys: stored as sha256 only, each belongs to a project. SQL only.
import { createHash } from 'node:crypto';
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';

/** Who asks. */
export interface Caller {
  keyId: string;
  projectId: string;
  organizationId: string;
}

/** Keys are long random texts, so a plain hash is enough and the lookup by hash needs no constant-time comparison. */
export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** Returns false when this key is there already. */
export async function insertApiKey(
  db: Queryable,
  key: { projectId: string; name: string; secret: string },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into api_keys (id, project_id, name, hash, hint) values ($1, $2, $3, $4, $5) on conflict (hash) do nothing`,
    [
      newId('apiKey'),
      key.projectId,
      key.name,
      hashKey(key.secret),
      `${key.secret.slice(0, 3)}...${key.secret.slice(-4)}`,
    ],
  );
  return rowCount === 1;
}

export async function hasApiKeys(db: Queryable): Promise<boolean> {
  const { rowCount } = await db.query('select 1 from api_keys where revoked_at is null limit 1');
  return rowCount === 1;
}

/** The holder of a key; null for one that is unknown or revoked. Notes its use, at most once a minute. */
export async function findCaller(db: Queryable, secret: string): Promise<Caller | null> {
  const { rows } = await db.query<Caller & { stale: boolean }>(
    `select api_keys.id as "keyId", project_id as "projectId", organization_id as "organizationId",
       coalesce(last_used_at < now() - interval '1 minute', true) as stale
     from api_keys join projects on projects.id = project_id
     where hash = $1 and revoked_at is null`,
    [hashKey(secret)],
  );
  const found = rows[0];
  if (!found) return null;
  const { stale, ...caller } = found;
  if (stale) await db.query('update api_keys set last_used_at = now() where id = $1', [caller.keyId]);
  return caller;
}

/** False when there is no such key, or it was revoked before. */
export async function revokeApiKey(db: Queryable, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    'update api_keys set revoked_at = now() where id = $1 and revoked_at is null',
    [id],
  );
  return rowCount === 1;
}

export interface ApiKey {
  id: string;
  name: string;
  project: string;
  hint: string;
  createdAt: Date;
  lastUsedAt: Date | null;
}

/** Those that work, oldest first. */
export async function listApiKeys(db: Queryable): Promise<ApiKey[]> {
  const { rows } = await db.query<ApiKey>(
    `select api_keys.id, api_keys.name, projects.name as project, hint, api_keys.created_at as "createdAt",
       last_used_at as "lastUsedAt"
     from api_keys join projects on projects.id = project_id
     where revoked_at is null order by api_keys.created_at, api_keys.id`,
  );
  return rows;
}
