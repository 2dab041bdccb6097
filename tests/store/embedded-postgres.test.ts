import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startEmbeddedPostgres } from '../../src/store/embedded-postgres.ts';

// mkdtemp's folder is closed to everybody else (0700), as a home folder may be: the server must work in there too.
let folder: string;
let directory: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-test-embedded-'));
  directory = join(folder, 'postgres');
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('is Postgres 18, keeps its data, and leaves no process behind', async () => {
  const first = await startEmbeddedPostgres({ directory });
  const [version] = await query(first.url, 'select version()');
  expect(version!.version).toMatch(/^PostgreSQL 18/);
  await query(first.url, 'create table kept as select 7 as n');
  await first.stop();
  expect(isAlive(first.pid)).toBe(false);
  const second = await startEmbeddedPostgres({ directory });
  expect(await query(second.url, 'select n from kept')).toEqual([{ n: 7 }]);
  await second.stop();
  expect(isAlive(second.pid)).toBe(false);
});

test('takes over the server of a starter that was killed', async () => {
  const script = `import { startEmbeddedPostgres } from ${JSON.stringify(join(import.meta.dirname, '../../src/store/embedded-postgres.ts'))};
    const server = await startEmbeddedPostgres({ directory: ${JSON.stringify(directory)} });
    console.log(server.pid); setInterval(() => undefined, 1000);`;
  const starter = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [chunk] = await once(starter.stdout!, 'data');
  starter.kill('SIGKILL');
  await once(starter, 'exit');
  const server = await startEmbeddedPostgres({ directory });
  expect(server.pid).toBe(Number(String(chunk)));
  await server.stop();
  expect(isAlive(server.pid)).toBe(false);
});

test('refuses a folder that somebody else runs on', async () => {
  const server = await startEmbeddedPostgres({ directory });
  await expect(startEmbeddedPostgres({ directory })).rejects.toThrow(/another anneal runs on/);
  await server.stop();
});

test('starts although a stale postmaster.pid names a living process', async () => {
  const first = await startEmbeddedPostgres({ directory });
  await first.stop();
  await writeFile(join(directory, 'postmaster.pid'), `${process.pid}\n${directory}\n0\n1\n\n127.0.0.1\n`);
  const second = await startEmbeddedPostgres({ directory });
  expect(await query(second.url, 'select 1 as n')).toEqual([{ n: 1 }]);
  await second.stop();
});

test('comes back at the same address when its process is killed', async () => {
  const server = await startEmbeddedPostgres({ directory });
  process.kill(server.pid, 'SIGKILL');
  await expect
    .poll(() => query(server.url, 'select 1 as n').catch(() => null), { timeout: 15_000 })
    .toEqual([{ n: 1 }]);
  await server.stop();
  await expect(query(server.url, 'select 1')).rejects.toThrow(/ECONNREFUSED/);
});
