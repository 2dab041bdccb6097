// Migrates a database to the newest schema: applies each numbered file of migrations/ once, in order, forward only.
// pg-boss creates its own tables (src/queue/queue.ts).
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';

const FOLDER = join(import.meta.dirname, '../../migrations');
/** Advisory lock that serializes concurrent migrators; any constant. */
const LOCK = 0x6d696772;

interface Migration {
  number: number;
  name: string;
  sql: string;
  sha256: string;
}

/** Applies the missing migrations and returns their names. Safe to run concurrently. */
export async function migrate(databaseUrl: string, folder = FOLDER): Promise<string[]> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'anneal migrate' });
  await client.connect();
  try {
    await client.query('select pg_advisory_lock($1)', [LOCK]);
    await client.query(`create table if not exists migrations (
      number int primary key, name text not null, sha256 text not null, applied_at timestamptz not null default now())`);
    return await applyMissing(client, await readMigrations(folder));
  } finally {
    await client.end(); // gives the lock back
  }
}

/** Names of the migrations that have not been applied to the database. */
export async function missingMigrations(db: pg.Pool, folder = FOLDER): Promise<string[]> {
  const migrations = await readMigrations(folder);
  const { rows: tables } = await db.query(`select to_regclass('migrations') is not null as present`);
  if (!tables[0].present) return migrations.map(migration => migration.name);
  const { rows } = await db.query('select number from migrations');
  const applied = new Set(rows.map(row => row.number));
  return migrations.filter(migration => !applied.has(migration.number)).map(migration => migration.name);
}

async function applyMissing(client: pg.Client, migrations: Migration[]): Promise<string[]> {
  const { rows } = await client.query('select number, name, sha256 from migrations order by number');
  for (const row of rows) checkApplied(row, migrations);
  const applied = new Set(rows.map(row => row.number));
  const missing = migrations.filter(migration => !applied.has(migration.number));
  for (const migration of missing) await apply(client, migration);
  return missing.map(migration => migration.name);
}

function checkApplied(row: { number: number; name: string; sha256: string }, migrations: Migration[]): void {
  const migration = migrations.find(one => one.number === row.number);
  if (!migration)
    throw new Error(
      `the database has migration ${row.name}, which this version does not know: run a newer one`,
    );
  if (migration.sha256 !== row.sha256)
    throw new Error(`migration ${row.name} was changed after it was applied`);
}

async function apply(client: pg.Client, migration: Migration): Promise<void> {
  await client.query('begin');
  try {
    await client.query(migration.sql);
    await client.query('insert into migrations (number, name, sha256) values ($1, $2, $3)', [
      migration.number,
      migration.name,
      migration.sha256,
    ]);
    await client.query('commit');
  } catch (cause) {
    await client.query('rollback');
    throw new Error(`migration ${migration.name} failed: ${(cause as Error).message}`, { cause });
  }
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const names = (await readdir(folder)).filter(name => name.endsWith('.sql')).sort();
  const migrations = await Promise.all(names.map(name => readMigration(folder, name)));
  migrations.forEach((migration, index) => {
    if (migration.number === migrations[index - 1]?.number)
      throw new Error(`migrations/${migration.name}: number ${migration.number} is taken`);
  });
  return migrations;
}

async function readMigration(folder: string, name: string): Promise<Migration> {
  const sql = await readFile(join(folder, name), 'utf8');
  return {
    number: Number.parseInt(name, 10),
    name,
    sql,
    sha256: createHash('sha256').update(sql).digest('hex'),
  };
}
