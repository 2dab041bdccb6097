// Idempotency keys: who used which for what, and what was answered. SQL only.
import type { Queryable } from './database.ts';

export interface KeyOwner {
  projectId: string;
  key: string;
}

export interface GivenAnswer {
  fingerprint: string;
  answer: unknown;
}

/** Null for a key that was not used, or long ago. */
export async function findGivenAnswer(
  db: Queryable,
  { projectId, key }: KeyOwner,
): Promise<GivenAnswer | null> {
  const { rows } = await db.query<GivenAnswer>(
    `select fingerprint, answer from idempotency_keys
     where project_id = $1 and key = $2 and expires_at > now()`,
    [projectId, key],
  );
  return rows[0] ?? null;
}

/**
 * Inside the transaction that makes what is answered. While another one holds the same key this waits for its end. False
 * when the key has been used.
 */
export async function claimKey(
  db: Queryable,
  claim: KeyOwner & { fingerprint: string; lifetimeSeconds: number },
): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into idempotency_keys (project_id, key, fingerprint, expires_at)
     values ($1, $2, $3, now() + make_interval(secs => $4))
     on conflict (project_id, key) do update
       set fingerprint = excluded.fingerprint, expires_at = excluded.expires_at, answer = null
       where idempotency_keys.expires_at <= now()`,
    [claim.projectId, claim.key, claim.fingerprint, claim.lifetimeSeconds],
  );
  return rowCount === 1;
}

/** In the same transaction as its `claimKey`. */
export async function writeAnswer(
  db: Queryable,
  { projectId, key }: KeyOwner,
  answer: unknown,
): Promise<void> {
  await db.query('update idempotency_keys set answer = $3 where project_id = $1 and key = $2', [
    projectId,
    key,
    JSON.stringify(answer),
  ]);
}

export async function removeExpiredKeys(db: Queryable): Promise<number> {
  const { rowCount } = await db.query('delete from idempotency_keys where expires_at <= now()');
  return rowCount ?? 0;
}
