// The connection pool to Postgres, and transactions on it. Statements on tables are in the other files of this folder.

import pg from 'pg';
import type { Logger } from 'pino';

/** What a store function runs on: the pool, or the client of a transaction. */
export type Queryable = pg.Pool | pg.PoolClient | pg.Client;

const INT8 = 20;

/** bigint columns come as numbers: no count here passes 2^53, and one that did would throw. */
export const columnTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === INT8
      ? parseInt8
      : pg.types.getTypeParser(oid, format as 'text')) as pg.CustomTypesConfig['getTypeParser'],
};

function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`bigint ${text} does not fit a number`);
  return value;
}

/** A process that is frozen within a transaction (a suspended machine) must not keep its row locks. */
const IDLE_IN_TRANSACTION_MS = 20_000;
/** No statement takes this long: one without an answer has lost its server, and the session is discarded. */
const QUERY_TIMEOUT_MS = 60_000;

/** A session that is lost while idle is only logged: the pool replaces it at the next query. */
export function openPool(databaseUrl: string, log: Logger, options: { max?: number } = {}): pg.Pool {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: options.max ?? 10,
    connectionTimeoutMillis: 10_000,
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    types: columnTypes,
    application_name: 'anneal',
  });
  pool.on('error', error => log.warn({ error: error.message }, 'a database session was lost'));
  return pool;
}

/** Of a session that does not answer: nothing further is asked of it, and its transaction ends with it. */
const isSilence = (error: unknown): error is Error =>
  error instanceof Error && error.message === 'Query read timeout';

/** Runs `work` in one transaction: committed when it returns, rolled back when it throws. */
export async function inTransaction<T>(pool: pg.Pool, work: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  // A session that dies between two queries says so by an event, which unheard would end the process.
  const onError = (error: Error) => {
    broken = error;
  };
  client.on('error', onError);
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (error) {
    if (isSilence(error)) broken = error;
    else
      await client.query('rollback').catch(cause => {
        broken = cause;
      });
    throw error;
  } finally {
    if (!broken) client.off('error', onError);
    client.release(broken);
  }
}
