import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, inject, test } from 'vitest';
import { migrate, missingMigrations } from '../../src/store/migrate.ts';
import { useDatabase } from '../support/postgres.ts';
import { execute, withDatabase } from '../support/postgres-server.ts';

describe('migrate', () => {
  const full = useDatabase();
  let url: string;
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'anneal-migrations-'));
    const name = `anneal_test_migrate_${Date.now()}`;
    await execute(inject('serverUrl'), `create database ${name}`);
    url = withDatabase(inject('serverUrl'), name);
    return async () => {
      await rm(folder, { recursive: true });
      await execute(inject('serverUrl'), `drop database ${name} with (force)`);
    };
  });

  const add = (name: string, sql: string) => writeFile(join(folder, name), sql);

  test('applies each file once, in order, also when five start at once', async () => {
    await add('0001-a.sql', 'create table a (id int); insert into a values (1);');
    await add('0002-b.sql', 'insert into a values (2);');
    const applied = await Promise.all(Array.from({ length: 5 }, () => migrate(url, folder)));
    expect(applied.flat()).toEqual(['0001-a.sql', '0002-b.sql']);
    expect(await migrate(url, folder)).toEqual([]);
  });

  test('leaves nothing of a file that fails, and names it', async () => {
    await add('0001-a.sql', 'create table a (id int); select 1/0;');
    await expect(migrate(url, folder)).rejects.toThrow(/0001-a.sql failed: division by zero/);
    await add('0001-a.sql', 'create table a (id int);');
    expect(await migrate(url, folder)).toEqual(['0001-a.sql']);
  });

  test('applies one that came with another branch, though a later one is there already', async () => {
    await add('0001-a.sql', 'create table a (id int)');
    await add('0003-c.sql', 'insert into a values (3)');
    await migrate(url, folder);
    await add('0002-b.sql', 'insert into a values (2)');
    expect(await migrate(url, folder)).toEqual(['0002-b.sql']);
  });

  test('refuses a file that was changed afterwards, a number twice, and a database that is newer', async () => {
    await add('0001-a.sql', 'create table a (id int)');
    await migrate(url, folder);
    await add('0001-a.sql', 'create table b (id int)');
    await expect(migrate(url, folder)).rejects.toThrow(/0001-a.sql was changed/);
    await add('0001-c.sql', 'select 1');
    await expect(migrate(url, folder)).rejects.toThrow(/0001-c.sql: number 1 is taken/);
    await rm(join(folder, '0001-c.sql'));
    await rm(join(folder, '0001-a.sql'));
    await expect(migrate(url, folder)).rejects.toThrow(/does not know/);
  });

  test('says what is missing', async () => {
    expect(await missingMigrations(full.pool)).toEqual([]);
    const { rows } = await full.pool.query('select number from migrations order by number');
    for (const { number } of rows) await add(`${String(number).padStart(4, '0')}-a.sql`, 'select 1');
    const next = `${String(rows.at(-1).number + 1).padStart(4, '0')}-b.sql`;
    await add(next, 'select 1');
    expect(await missingMigrations(full.pool, folder)).toEqual([next]);
  });
});
