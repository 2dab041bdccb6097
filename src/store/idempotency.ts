// Idempotency keys, with the fingerprint of the request and its stored response. SQL only.
import type { Queryable } from './database.ts';

export interface KeyOwner {
  /** Project id, or 'organization' for admin keys. */
  owner: string;
  key: string;
}

export interface Claim extends KeyOwner {
  fingerprint: string;
  lifetimeSeconds: number;
}

export interface GivenAnswer {
  fingerprint: string;
  /** The response, where it was produced in one transaction with the claim. */
  answer: unknown;
  /** The encrypted response of any other request; null while the request is in progress. */
  sealed: Buffer | null;
  statusCode: number;
  contentType: string | null;
}

/** Null when the key is unused, expired, or was held by a process that died before it had responded. */
export async function findGivenAnswer(db: Queryable, { owner, key }: KeyOwner): Promise<GivenAnswer | null> {
  const { rows } = await db.query<GivenAnswer>(
    `select fingerprint, answer, sealed, status_code as "statusCode", content_type as "contentType"
     from idempotency_keys
     where owner = $1 and key = $2 and expires_at > now() and (held_until is null or held_until > now())`,
    [owner, key],
  );
  return rows[0] ?? null;
}

/** SQL: whether the existing row no longer reserves the key. */
const isFree = 'idempotency_keys.expires_at <= now() or idempotency_keys.held_until <= now()';

/**
 * Call in the transaction that produces the response. Waits while another transaction claims the same key. False when the
 * key is already used.
 */
export async function claimKey(db: Queryable, claim: Claim): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into idempotency_keys (owner, key, fingerprint, expires_at)
     values ($1, $2, $3, now() + make_interval(secs => $4))
     on conflict (owner, key) do update
       set fingerprint = excluded.fingerprint, expires_at = excluded.expires_at, answer = null, sealed = null,
         held_by = null, held_until = null
       where ${isFree}`,
    [claim.owner, claim.key, claim.fingerprint, claim.lifetimeSeconds],
  );
  return rowCount === 1;
}

/** Call in the same transaction as `claimKey`. */
export async function writeAnswer(db: Queryable, { owner, key }: KeyOwner, answer: unknown): Promise<void> {
  await db.query('update idempotency_keys set answer = $3 where owner = $1 and key = $2', [
    owner,
    key,
    JSON.stringify(answer),
  ]);
}

// ---- responses that are not produced in one transaction

export interface Hold extends KeyOwner {
  /** Unique for each request. */
  holder: string;
}

/** False when the key is already used, or another request with it is in progress. */
export async function holdKey(
  db: Queryable,
  claim: Claim & Hold & { holdSeconds: number },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into idempotency_keys (owner, key, fingerprint, expires_at, held_by, held_until)
     values ($1, $2, $3, now() + make_interval(secs => $4), $5, now() + make_interval(secs => $6))
     on conflict (owner, key) do update
       set fingerprint = excluded.fingerprint, expires_at = excluded.expires_at, answer = null, sealed = null,
         held_by = excluded.held_by, held_until = excluded.held_until
       where ${isFree}`,
    [claim.owner, claim.key, claim.fingerprint, claim.lifetimeSeconds, claim.holder, claim.holdSeconds],
  );
  return rowCount === 1;
}

const held = 'owner = $1 and key = $2 and held_by = $3';

export async function keepHolding(db: Queryable, hold: Hold, holdSeconds: number): Promise<void> {
  await db.query(`update idempotency_keys set held_until = now() + make_interval(secs => $4) where ${held}`, [
    hold.owner,
    hold.key,
    hold.holder,
    holdSeconds,
  ]);
}

/** Does nothing when the hold was lost. */
export async function writeSealedAnswer(
  db: Queryable,
  hold: Hold,
  answer: { sealed: Buffer; statusCode: number; contentType: string },
): Promise<void> {
  await db.query(
    `update idempotency_keys set sealed = $4, status_code = $5, content_type = $6, held_by = null, held_until = null
     where ${held}`,
    [hold.owner, hold.key, hold.holder, answer.sealed, answer.statusCode, answer.contentType],
  );
}

/** Frees the key for another request. */
export async function releaseKey(db: Queryable, hold: Hold): Promise<void> {
  await db.query(`delete from idempotency_keys where ${held}`, [hold.owner, hold.key, hold.holder]);
}

export async function removeExpiredKeys(db: Queryable): Promise<number> {
  const { rowCount } = await db.query('delete from idempotency_keys where expires_at <= now()');
  return rowCount ?? 0;
}
