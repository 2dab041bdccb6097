// The audit log of administrative acts. An entry is written in the transaction of the act and never changed. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, toPage } from './pages.ts';

/** The subset of OpenAI's event types that occurs here. */
export const auditTypes = [
  'api_key.created',
  'api_key.updated',
  'api_key.deleted',
  'checkpoint.permission.created',
  'checkpoint.permission.deleted',
  'login.failed',
  'project.created',
  'project.updated',
  'project.archived',
  'rate_limit.updated',
  'resource.deleted',
  'service_account.created',
  'service_account.updated',
  'service_account.deleted',
] as const;
export type AuditType = (typeof auditTypes)[number];

export interface Actor {
  /** `session`: the command line, or an unauthenticated request. */
  type: 'api_key' | 'session';
  /** Id of the key. */
  id: string | null;
  /** IP address of the request. */
  address: string | null;
}

export const commandLine: Actor = { type: 'session', id: null, address: null };

export interface AuditEntry {
  type: AuditType;
  actor: Actor;
  projectId?: string | null;
  /** Id of the object that was changed. */
  resourceId?: string | null;
  /** What the wire object holds besides the id. */
  details?: Record<string, unknown>;
}

export interface AuditLog extends Required<AuditEntry> {
  id: string;
  effectiveAt: Date;
  projectName: string | null;
  /** The service account that the actor's key belongs to, if any. */
  serviceAccountId: string | null;
}

export async function appendAuditLog(db: Queryable, entry: AuditEntry): Promise<void> {
  const { type, actor, projectId, resourceId, details } = entry;
  await db.query(
    `insert into audit_logs (id, type, actor_type, actor_id, address, project_id, resource_id, details)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      newId('auditLog'),
      type,
      actor.type,
      actor.id,
      actor.address,
      projectId ?? null,
      resourceId ?? null,
      { ...(resourceId ? { id: resourceId } : {}), ...details },
    ],
  );
}

export interface AuditFilter {
  limit: number;
  after?: string | undefined;
  /** Cursor for paging backwards: the page ends just before this entry. */
  before?: string | undefined;
  types?: string[] | undefined;
  projectIds?: string[] | undefined;
  actorIds?: string[] | undefined;
  resourceIds?: string[] | undefined;
  /** Unix seconds. */
  effectiveAt?: { gt?: number; gte?: number; lt?: number; lte?: number } | undefined;
}

const columns = `audit_logs.id, type, effective_at as "effectiveAt", audit_logs.project_id as "projectId",
  projects.name as "projectName", resource_id as "resourceId", details, api_keys.service_account_id as "serviceAccountId",
  json_build_object('type', actor_type, 'id', actor_id, 'address', address) as actor`;

/** Newest first. An unknown `after` or `before` gives an empty page. */
export async function listAuditLogs(db: Queryable, filter: AuditFilter): Promise<Page<AuditLog>> {
  const backwards = filter.before !== undefined;
  const { gt, gte, lt, lte } = filter.effectiveAt ?? {};
  const { rows } = await db.query<AuditLog>(
    `select ${columns} from audit_logs
       left join projects on projects.id = audit_logs.project_id
       left join api_keys on api_keys.id = actor_id
     where ($1::text is null or sequence < (select sequence from audit_logs where id = $1))
       and ($2::text is null or sequence > (select sequence from audit_logs where id = $2))
       and ($3::text[] is null or type = any($3))
       and ($4::text[] is null or audit_logs.project_id = any($4))
       and ($5::text[] is null or actor_id = any($5) or service_account_id = any($5))
       and ($6::text[] is null or resource_id = any($6))
       and ($7::float8 is null or extract(epoch from date_trunc('second', effective_at)) > $7)
       and ($8::float8 is null or effective_at >= to_timestamp($8))
       and ($9::float8 is null or effective_at < to_timestamp($9))
       and ($10::float8 is null or extract(epoch from date_trunc('second', effective_at)) <= $10)
     order by sequence ${backwards ? 'asc' : 'desc'} limit $11`,
    [
      filter.after ?? null,
      filter.before ?? null,
      filter.types ?? null,
      filter.projectIds ?? null,
      filter.actorIds ?? null,
      filter.resourceIds ?? null,
      gt ?? null,
      gte ?? null,
      lt ?? null,
      lte ?? null,
      filter.limit + 1,
    ],
  );
  const page = toPage(rows, filter.limit);
  return backwards ? { ...page, rows: page.rows.reverse() } : page;
}
