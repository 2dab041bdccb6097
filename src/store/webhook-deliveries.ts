// Deliveries to webhook endpoints: pending ones and their results. SQL only.
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { QUEUE_CHANNEL } from './notifications.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';
import { validSecrets } from './webhooks.ts';

/** Payload on QUEUE_CHANNEL that tells workers of new deliveries. */
export const WEBHOOKS_PAYLOAD = 'webhooks';

export type WebhookEventType =
  | `fine_tuning.job.${'succeeded' | 'failed' | 'cancelled'}`
  | `batch.${'completed' | 'failed' | 'expired' | 'cancelled'}`
  | `eval.run.${'succeeded' | 'failed' | 'canceled'}`
  | `response.${'completed' | 'failed' | 'cancelled' | 'incomplete'}`;

export interface Announcement {
  projectId: string;
  type: WebhookEventType;
  /** Id of the job, batch, eval run or response. */
  id: string;
}

/**
 * Creates a delivery for each endpoint that subscribes to the event. Call in the transaction that changes the object, so that both
 * are committed or neither.
 */
export async function announce(db: Queryable, { projectId, type, id }: Announcement): Promise<void> {
  const { rows: endpoints } = await db.query<{ id: string }>(
    'select id from webhook_endpoints where project_id = $1 and $2 = any(event_types)',
    [projectId, type],
  );
  if (endpoints.length === 0) return;
  await db.query(
    `with added as (
       insert into webhook_deliveries (id, endpoint_id, event_id, event_type, data)
       select delivery, endpoint.id, $3, $4, $5
       from unnest($1::text[], $2::text[]) as wanted (delivery, id) join webhook_endpoints as endpoint using (id)
       returning 1)
     select pg_notify($6, $7) from added limit 1`,
    [
      endpoints.map(() => newId('webhookDelivery')),
      endpoints.map(endpoint => endpoint.id),
      newId('webhookEvent'),
      type,
      { id },
      QUEUE_CHANNEL,
      WEBHOOKS_PAYLOAD,
    ],
  );
}

// ---- sending

export interface DueDelivery {
  id: string;
  /** Fencing token: incremented with each attempt. */
  attempts: number;
  url: string;
  secrets: string[];
  eventId: string;
  eventType: string;
  data: Record<string, unknown>;
  createdAt: Date;
}

/** Leases deliveries that are due. If no result is written within `leaseSeconds`, they are due again. */
export async function takeDueDeliveries(
  db: Queryable,
  { limit, leaseSeconds }: { limit: number; leaseSeconds: number },
): Promise<DueDelivery[]> {
  const { rows } = await db.query<DueDelivery>(
    `update webhook_deliveries as delivery set attempts = attempts + 1, last_attempt_at = now(),
       next_attempt_at = now() + make_interval(secs => $2)
     from webhook_endpoints as endpoint
     where endpoint.id = endpoint_id and delivery.id in (
       select id from webhook_deliveries where status = 'pending' and next_attempt_at <= now()
       order by next_attempt_at limit $1 for update skip locked)
     returning delivery.id, attempts, url, ${validSecrets} as secrets, event_id as "eventId", event_type as "eventType",
       data, delivery.created_at as "createdAt"`,
    [limit, leaseSeconds],
  );
  return rows;
}

export interface DeliveryResult {
  id: string;
  attempts: number;
  delivered: boolean;
  statusCode: number | null;
  error: string | null;
  /** Seconds until the next attempt, if this one failed. */
  retrySeconds: number;
  /** Age of the event in seconds after which there is no further attempt. */
  giveUpSeconds: number;
}

/** Does nothing when another worker has taken the delivery meanwhile. */
export async function writeDeliveryResult(db: Queryable, result: DeliveryResult): Promise<void> {
  await db.query(
    `update webhook_deliveries set last_status_code = $4, last_error = $5,
       status = case when $3 then 'delivered' when too_late then 'failed' else 'pending' end,
       delivered_at = case when $3 then now() end,
       next_attempt_at = case when $3 or too_late then null else next end
     from (select id as this, now() + make_interval(secs => $6) as next,
         now() + make_interval(secs => $6) > created_at + make_interval(secs => $7) as too_late
       from webhook_deliveries where id = $1) as plan
     where id = $1 and attempts = $2 and status = 'pending'`,
    [
      result.id,
      result.attempts,
      result.delivered,
      result.statusCode,
      result.error,
      result.retrySeconds,
      result.giveUpSeconds,
    ],
  );
}

// ---- the log

export interface WebhookDelivery {
  id: string;
  endpointId: string;
  eventId: string;
  eventType: string;
  data: Record<string, unknown>;
  createdAt: Date;
  status: 'pending' | 'delivered' | 'failed';
  attempts: number;
  nextAttemptAt: Date | null;
  deliveredAt: Date | null;
  lastAttemptAt: Date | null;
  lastStatusCode: number | null;
  lastError: string | null;
}

const columns = `id, endpoint_id as "endpointId", event_id as "eventId", event_type as "eventType", data,
  created_at as "createdAt", status, attempts, next_attempt_at as "nextAttemptAt", delivered_at as "deliveredAt",
  last_attempt_at as "lastAttemptAt", last_status_code as "lastStatusCode", last_error as "lastError"`;

/** Newest first. */
export async function listWebhookDeliveries(
  db: Queryable,
  endpointId: string,
  page: PageRequest,
): Promise<Page<WebhookDelivery>> {
  const { rows } = await db.query<WebhookDelivery>(
    `select ${columns} from webhook_deliveries
     where endpoint_id = $1
       and ($2::text is null
         or (created_at, id) < (select created_at, id from webhook_deliveries where id = $2 and endpoint_id = $1))
     order by created_at desc, id desc
     limit $3`,
    [endpointId, page.after ?? null, page.limit + 1],
  );
  return toPage(rows, page.limit);
}

export async function removeOldDeliveries(db: Queryable, keptDays: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from webhook_deliveries where status <> 'pending' and created_at < now() - make_interval(days => $1)`,
    [keptDays],
  );
  return rowCount ?? 0;
}
