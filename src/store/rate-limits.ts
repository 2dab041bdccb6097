// Rate limits of projects: token buckets in Postgres, shared by all api processes. SQL only.
//
// A bucket holds the used part of a limit and drains at a constant rate (`limit / 60` per second). A request is admitted if it fits into
// all buckets of its project; one statement locks, checks and updates them. Its cost is measured by benchmarks/limits.ts.
import type { Queryable } from './database.ts';

/** Model name of the limit over all models of a project. */
export const ALL_MODELS = 'all';

/** Null: unlimited. */
export interface RateLimits {
  requestsPerMinute: number | null;
  tokensPerMinute: number | null;
  requestsPerDay: number | null;
}

export type RateLimit = RateLimits & { projectId: string; model: string };

const limitColumns = `requests_per_minute as "requestsPerMinute", tokens_per_minute as "tokensPerMinute",
  requests_per_day as "requestsPerDay"`;

export async function readRateLimits(db: Queryable, projectId: string): Promise<RateLimit[]> {
  const { rows } = await db.query<RateLimit>(
    `select project_id as "projectId", model, ${limitColumns} from rate_limits where project_id = $1`,
    [projectId],
  );
  return rows;
}

/** Deletes the row where nothing is limited, so that requests skip the check. The used amounts are kept otherwise. */
export async function writeRateLimit(db: Queryable, limit: RateLimit): Promise<void> {
  const values = [limit.requestsPerMinute, limit.tokensPerMinute, limit.requestsPerDay];
  if (values.every(value => value === null)) {
    await db.query('delete from rate_limits where project_id = $1 and model = $2', [
      limit.projectId,
      limit.model,
    ]);
    return;
  }
  await db.query(
    `insert into rate_limits (project_id, model, requests_per_minute, tokens_per_minute, requests_per_day)
     values ($1, $2, $3, $4, $5)
     on conflict (project_id, model) do update set requests_per_minute = excluded.requests_per_minute,
       tokens_per_minute = excluded.tokens_per_minute, requests_per_day = excluded.requests_per_day`,
    [limit.projectId, limit.model, ...values],
  );
}

/** SQL: the buckets as drained by now. `clock_timestamp`, because the row lock may have been waited for; `greatest` ignores nulls. */
const drained = `
  greatest(0, used_requests - age * requests_per_minute / 60) as used_requests,
  greatest(0, used_tokens - age * tokens_per_minute / 60) as used_tokens,
  greatest(0, used_day - age * requests_per_day / 86400) as used_day`;
const aged = `lateral (
  select greatest(0, extract(epoch from clock_timestamp() - used_at))::float8 as age) as ages`;

/** A limit, and how much of it was used before the request. */
export interface Held extends RateLimits {
  model: string;
  usedRequests: number;
  usedTokens: number;
  usedDay: number;
}

export interface Admission {
  admitted: boolean;
  limits: Held[];
}

/**
 * Takes one request and `tokens` from all limits of the project that apply to `model`, or from none. Commits asynchronously, as the
 * flush would be most of its time: after a crash of the database up to half a second of usage is lost.
 */
export async function takeFromLimits(
  db: Queryable,
  { projectId, model, tokens }: { projectId: string; model: string; tokens: number },
): Promise<Admission> {
  const { rows } = await db.query<Held & { admitted: boolean }>(
    `with held as materialized (
       select model, requests_per_minute, tokens_per_minute, requests_per_day, ${drained}
       from rate_limits, ${aged}
       where project_id = $1 and model in ('${ALL_MODELS}', $2) order by model for update of rate_limits),
     fits as (
       select bool_and(coalesce(used_requests + 1 <= requests_per_minute, true)
         and coalesce(used_tokens + $3 <= tokens_per_minute, true)
         and coalesce(used_day + 1 <= requests_per_day, true)) as admitted from held),
     taken as (
       update rate_limits set used_requests = held.used_requests + 1, used_tokens = held.used_tokens + $3,
         used_day = held.used_day + 1, used_at = clock_timestamp()
       from held, fits
       where fits.admitted and rate_limits.project_id = $1 and rate_limits.model = held.model)
     select model, ${limitColumns}, used_requests as "usedRequests", used_tokens as "usedTokens",
       used_day as "usedDay", admitted, set_config('synchronous_commit', 'off', true)
     from held, fits order by model`,
    [projectId, model, tokens],
  );
  return { admitted: rows.every(row => row.admitted), limits: rows };
}

export interface Settlement {
  projectId: string;
  model: string;
  tokens: number;
}

/** Replaces the estimated tokens of finished requests by the actual ones. At most one settlement per limit. */
export async function settleTokens(db: Queryable, settlements: readonly Settlement[]): Promise<void> {
  await db.query(
    `with owed as (select * from unnest($1::text[], $2::text[], $3::float8[]) as owed (project_id, model, tokens)),
     held as materialized (
       select project_id, model, ${drained}
       from rate_limits, ${aged}
       where (project_id, model) in (select project_id, model from owed)
       order by project_id, model for update of rate_limits)
     update rate_limits set used_requests = held.used_requests, used_day = held.used_day,
       used_tokens = greatest(0, held.used_tokens + owed.tokens), used_at = clock_timestamp()
     from held join owed using (project_id, model)
     where rate_limits.project_id = held.project_id and rate_limits.model = held.model`,
    [
      settlements.map(one => one.projectId),
      settlements.map(one => one.model),
      settlements.map(one => one.tokens),
    ],
  );
}
