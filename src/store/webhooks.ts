// Webhook endpoints of projects, with their signing secrets. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, placeOf, toPage } from './pages.ts';

export interface WebhookEndpoint {
  id: string;
  projectId: string;
  name: string;
  url: string;
  eventTypes: string[];
  /** Newest first. There is a second one while the previous secret is still valid. */
  secrets: string[];
  createdAt: Date;
  updatedAt: Date;
}

/** SQL: the valid secrets of a row of `webhook_endpoints`. */
export const validSecrets = `case when old_secret_until > now() then array[secret, old_secret] else array[secret] end`;

const columns = `id, project_id as "projectId", name, url, event_types as "eventTypes", ${validSecrets} as secrets,
  created_at as "createdAt", updated_at as "updatedAt"`;

export interface WebhookSettings {
  name: string;
  url: string;
  eventTypes: string[];
}

export async function insertWebhookEndpoint(
  db: Queryable,
  endpoint: WebhookSettings & { projectId: string; secret: string },
): Promise<WebhookEndpoint> {
  const { rows } = await db.query<WebhookEndpoint>(
    `insert into webhook_endpoints (id, project_id, name, url, event_types, secret)
     values ($1, $2, $3, $4, $5, $6) returning ${columns}`,
    [
      newId('webhookEndpoint'),
      endpoint.projectId,
      endpoint.name,
      endpoint.url,
      endpoint.eventTypes,
      endpoint.secret,
    ],
  );
  return rows[0]!;
}

export async function findWebhookEndpoint(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<WebhookEndpoint | null> {
  const { rows } = await db.query<WebhookEndpoint>(
    `select ${columns} from webhook_endpoints where id = $1 and project_id = $2`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

/** Newest first. */
export async function listWebhookEndpoints(
  db: Queryable,
  projectId: string,
  page: PageRequest,
): Promise<Page<WebhookEndpoint>> {
  const place = placeOf({ table: 'webhook_endpoints', id: '$2', list: '$1', column: 'project_id' });
  const { rows } = await db.query<WebhookEndpoint>(
    `select ${columns} from webhook_endpoints
     where project_id = $1
       and ($2::text is null or (created_at, id) < ${place})
     order by created_at desc, id desc
     limit $3`,
    [projectId, page.after ?? null, page.limit + 1],
  );
  return toPage(rows, page.limit);
}

/** Null when the project has no such endpoint. `updated_at` changes only if a value does. */
export async function updateWebhookEndpoint(
  db: Queryable,
  projectId: string,
  id: string,
  change: Partial<WebhookSettings>,
): Promise<WebhookEndpoint | null> {
  const { rows } = await db.query<WebhookEndpoint>(
    `update webhook_endpoints as old set
       name = coalesce($3, name), url = coalesce($4, url), event_types = coalesce($5, event_types),
       updated_at = case
         when (name, url, event_types) = (coalesce($3, name), coalesce($4, url), coalesce($5, event_types))
         then updated_at else now() end
     where id = $1 and project_id = $2 returning ${columns}`,
    [id, projectId, change.name ?? null, change.url ?? null, change.eventTypes ?? null],
  );
  return rows[0] ?? null;
}

/** `keepSeconds`: how long the secret before stays valid. Null when the project has no such endpoint. */
export async function replaceSecret(
  db: Queryable,
  endpoint: { projectId: string; id: string; secret: string; keepSeconds: number },
): Promise<WebhookEndpoint | null> {
  const { rows } = await db.query<WebhookEndpoint>(
    `update webhook_endpoints set old_secret = case when $4 > 0 then secret end,
       old_secret_until = now() + make_interval(secs => $4), secret = $3, updated_at = now()
     where id = $1 and project_id = $2 returning ${columns}`,
    [endpoint.id, endpoint.projectId, endpoint.secret, endpoint.keepSeconds],
  );
  return rows[0] ?? null;
}

/** What was still to be sent there is not sent. False when the project has no such endpoint. */
export async function deleteWebhookEndpoint(db: Queryable, projectId: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query('delete from webhook_endpoints where id = $1 and project_id = $2', [
    id,
    projectId,
  ]);
  return rowCount === 1;
}
