// A fresh, migrated database for a test file, dropped at its end.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import pino from 'pino';
import { afterAll, beforeAll, inject } from 'vitest';
import { openPool } from '../../src/store/database.ts';
import { execute, withDatabase } from './postgres-server.ts';

export interface TestDatabase {
  url: string;
  pool: pg.Pool;
}

/** Call at the top of a test file; the properties are available once its tests run. */
export function useDatabase(): TestDatabase {
  const database = {} as TestDatabase & { drop(): Promise<void> };
  beforeAll(async () => {
    Object.assign(database, await createDatabase());
  });
  afterAll(() => database.drop?.());
  return database;
}

export async function createDatabase(): Promise<TestDatabase & { drop(): Promise<void> }> {
  const serverUrl = inject('serverUrl');
  const name = `anneal_test_${randomBytes(6).toString('hex')}`;
  await createFromTemplate(serverUrl, name);
  const url = withDatabase(serverUrl, name);
  const pool = openPool(url, pino({ level: 'silent' }));
  return {
    url,
    pool,
    async drop() {
      await pool.end();
      await execute(serverUrl, `drop database if exists ${name} with (force)`);
    },
  };
}

/** `create database ... template` fails while the template is being copied by another connection. */
async function createFromTemplate(serverUrl: string, name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await execute(serverUrl, `create database ${name} template ${inject('templateDatabase')}`);
    } catch (error) {
      if (attempt === 50 || (error as { code?: string }).code !== '55006') throw error;
      await new Promise(done => setTimeout(done, 50 * Math.random()));
    }
  }
}
