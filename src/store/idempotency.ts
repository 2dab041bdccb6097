// Idempotency keys: who used which for what, and what was answered. SQL only.
import type { Queryable } from './database.ts';

export interface KeyOwner {
  /** A project, or the organization. */
  owner: string;
  key: string;
}

export interface Claim extends KeyOwner {
  fingerprint: string;
  lifetimeSeconds: number;
}

export interface GivenAnswer {
  fingerprint: string;
  /** Of an answer that was made in a transaction. */
  answer: unknown;
  /** Of any other; null as well while it is being made. */
  sealed: Buffer | null;
  statusCode: number;
  contentType: string | null;
}

/** Null for a key that was not used, or long ago, or by somebody who died before there was an answer. */
export async function findGivenAnswer(db: Queryable, { owner, key }: KeyOwner): Promise<GivenAnswer | null> {
  const { rows } = await db.query<GivenAnswer>(
    `select fingerprint, answer, sealed, status_code as "statusCode", content_type as "contentType"
     from idempotency_keys
     where owner = $1 and key = $2 and expires_at > now() and (held_until is null or held_until > now())`,
    [owner, key],
  );
  return rows[0] ?? null;
}

/** Of the key that is asked for: nobody has it any more. */
const isFree = 'idempotency_keys.expires_at <= now() or idempotency_keys.held_until <= now()';

/**
 * Inside the transaction that makes what is answered. While another one holds the same key this waits for its end. False
 * when the key has been used.
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

/** In the same transaction as its `claimKey`. */
export async function writeAnswer(db: Queryable, { owner, key }: KeyOwner, answer: unknown): Promise<void> {
  await db.query('update idempotency_keys set answer = $3 where owner = $1 and key = $2', [
    owner,
    key,
    JSON.stringify(answer),
  ]);
}

// ---- answers that are not made in one transaction

export interface Hold extends KeyOwner {
  /** Nobody else's. */
  holder: string;
}

/** False when the key has been used, or somebody else is making its answer. */
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

/** Nothing when the hold was lost. */
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

/** The key may be used again. */
export async function releaseKey(db: Queryable, hold: Hold): Promise<void> {
  await db.query(`delete from idempotency_keys where ${held}`, [hold.owner, hold.key, hold.holder]);
}

export async function removeExpiredKeys(db: Queryable): Promise<number> {
  const { rowCount } = await db.query('delete from idempotency_keys where expires_at <= now()');
  return rowCount ?? 0;
}
