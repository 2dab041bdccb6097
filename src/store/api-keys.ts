// API keys: each belongs to a project, and optionally to one of its service accounts. Only their SHA-256 is stored. SQL only.
import { createHash } from 'node:crypto';
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';

/** The authenticated caller of a request. */
export interface Caller {
  keyId: string;
  projectId: string;
  organizationId: string;
  serviceAccountId: string | null;
  /** The key's scopes; empty: no restriction. */
  scopes: string[];
  /** Whether the project has rate limits. */
  limited: boolean;
  /** True for the requests of a batch. */
  inBatch?: boolean;
}

/** Keys are long random texts, so a plain hash is enough and the lookup by hash needs no constant-time comparison. */
export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** What is shown of a key after its creation: its prefix and its last four characters. */
export function hintOf(secret: string): string {
  const prefix = /^sk-(admin-|svcacct-)?/.exec(secret)?.[0] ?? secret.slice(0, 3);
  return `${prefix}...${secret.slice(-4)}`;
}

export interface NewApiKey {
  projectId: string;
  name: string;
  secret: string;
  serviceAccountId?: string | null;
  scopes?: string[];
  expiresInSeconds?: number | null;
}

export interface ApiKey {
  id: string;
  projectId: string;
  name: string;
  hint: string;
  createdAt: Date;
  lastUsedAt: Date | null;
  expiresAt: Date | null;
  scopes: string[];
  /** Null for a key created on the command line. */
  serviceAccount: { id: string; name: string; role: string; createdAt: Date } | null;
}

interface ApiKeyRow extends Omit<ApiKey, 'serviceAccount'> {
  accountId: string | null;
  accountName: string;
  accountRole: string;
  accountCreatedAt: Date;
}

const columns = `api_keys.id, api_keys.project_id as "projectId", api_keys.name, api_keys.hint,
  api_keys.created_at as "createdAt", api_keys.last_used_at as "lastUsedAt", api_keys.expires_at as "expiresAt",
  api_keys.scopes, accounts.id as "accountId", accounts.name as "accountName", accounts.role as "accountRole",
  accounts.created_at as "accountCreatedAt"`;
const joined = 'left join service_accounts accounts on accounts.id = api_keys.service_account_id';

function toApiKey({ accountId, accountName, accountRole, accountCreatedAt, ...key }: ApiKeyRow): ApiKey {
  const account = { name: accountName, role: accountRole, createdAt: accountCreatedAt };
  return { ...key, serviceAccount: accountId === null ? null : { id: accountId, ...account } };
}

/** Null when the key already exists. */
export async function insertApiKey(db: Queryable, key: NewApiKey): Promise<ApiKey | null> {
  const { rows } = await db.query<ApiKeyRow>(
    `with api_keys as (
       insert into api_keys (id, project_id, name, hash, hint, service_account_id, scopes, expires_at)
       values ($1, $2, $3, $4, $5, $6, $7, date_trunc('second', now()) + make_interval(secs => $8))
       on conflict (hash) do nothing returning *)
     select ${columns} from api_keys ${joined}`,
    [
      newId('apiKey'),
      key.projectId,
      key.name,
      hashKey(key.secret),
      hintOf(key.secret),
      key.serviceAccountId ?? null,
      key.scopes ?? [],
      key.expiresInSeconds ?? null,
    ],
  );
  return rows[0] ? toApiKey(rows[0]) : null;
}

export async function hasApiKeys(db: Queryable): Promise<boolean> {
  const { rowCount } = await db.query('select 1 from api_keys where revoked_at is null limit 1');
  return rowCount === 1;
}

/**
 * The caller that a key belongs to; null when the key is unknown, revoked, expired, or its project is archived. Queried for
 * every request, so that a revocation takes effect at once. Updates `last_used_at` at most once a minute.
 */
export async function findCaller(db: Queryable, secret: string): Promise<Caller | null> {
  const { rows } = await db.query<Caller & { stale: boolean }>({
    // runs for every request: a prepared statement is parsed and planned once per session
    name: 'find-caller',
    text: `select api_keys.id as "keyId", project_id as "projectId", organization_id as "organizationId",
       service_account_id as "serviceAccountId", scopes,
       exists(select 1 from rate_limits where rate_limits.project_id = api_keys.project_id) as limited,
       coalesce(last_used_at < now() - interval '1 minute', true) as stale
     from api_keys join projects on projects.id = project_id
     where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now()) and archived_at is null`,
    values: [hashKey(secret)],
  });
  const found = rows[0];
  if (!found) return null;
  const { stale, ...caller } = found;
  if (stale) await db.query('update api_keys set last_used_at = now() where id = $1', [caller.keyId]);
  return caller;
}

const alive = `api_keys.revoked_at is null`;

export async function findApiKey(db: Queryable, projectId: string, id: string): Promise<ApiKey | null> {
  const { rows } = await db.query<ApiKeyRow>(
    `select ${columns} from api_keys ${joined} where api_keys.id = $1 and api_keys.project_id = $2 and ${alive}`,
    [id, projectId],
  );
  return rows[0] ? toApiKey(rows[0]) : null;
}

/** Keys of one project, oldest first, expired ones included. An unknown `after` gives an empty page. */
export async function listProjectKeys(
  db: Queryable,
  { projectId, after, limit }: PageRequest & { projectId: string },
): Promise<Page<ApiKey>> {
  const { rows } = await db.query<ApiKeyRow>(
    `select ${columns} from api_keys ${joined}
     where api_keys.project_id = $1 and ${alive}
       and ($2::text is null or (api_keys.created_at, api_keys.id) > (select created_at, id from api_keys where id = $2))
     order by api_keys.created_at, api_keys.id limit $3`,
    [projectId, after ?? null, limit + 1],
  );
  return toPage(rows.map(toApiKey), limit);
}

/** Undefined fields keep their value. Null when the key does not exist or has expired. */
export async function updateApiKey(
  db: Queryable,
  key: {
    projectId: string;
    id: string;
    scopes?: string[] | undefined;
    expiresInSeconds?: number | undefined;
  },
): Promise<ApiKey | null> {
  const { rows } = await db.query<ApiKeyRow>(
    `with api_keys as (
       update api_keys set scopes = coalesce($3, scopes),
         expires_at = coalesce(date_trunc('second', now()) + make_interval(secs => $4), expires_at)
       where id = $1 and project_id = $2 and revoked_at is null and (expires_at is null or expires_at > now())
       returning *)
     select ${columns} from api_keys ${joined}`,
    [key.id, key.projectId, key.scopes ?? null, key.expiresInSeconds ?? null],
  );
  return rows[0] ? toApiKey(rows[0]) : null;
}

/** Returns the id of the key's project; null when the key does not exist or is already revoked. */
export async function revokeApiKey(db: Queryable, id: string): Promise<string | null> {
  const { rows } = await db.query<{ projectId: string }>(
    `update api_keys set revoked_at = now() where id = $1 and revoked_at is null returning project_id as "projectId"`,
    [id],
  );
  return rows[0]?.projectId ?? null;
}

/** The valid keys of all projects, oldest first, each with the name of its project. */
export async function listApiKeys(db: Queryable): Promise<(ApiKey & { project: string })[]> {
  const { rows } = await db.query<ApiKeyRow & { project: string }>(
    `select ${columns}, projects.name as project
     from api_keys ${joined} join projects on projects.id = api_keys.project_id
     where ${alive} and (api_keys.expires_at is null or api_keys.expires_at > now()) and archived_at is null
     order by api_keys.created_at, api_keys.id`,
  );
  return rows.map(({ project, ...key }) => ({ ...toApiKey(key), project }));
}
