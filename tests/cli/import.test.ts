// `anneal import openai` as a user runs it; what it brings is tests/routes/import.test.ts'.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { useServer } from '../support/server.ts';

const main = join(import.meta.dirname, '../../src/main.ts');
const account = useServer();
let database: TestDatabase & { drop(): Promise<void> };
let folder: string;

beforeAll(async () => {
  database = await createDatabase();
  folder = await mkdtemp(join(tmpdir(), 'anneal-test-import-'));
});
afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

async function anneal(args: string[], environment: Record<string, string> = {}) {
  const env = {
    PATH: process.env.PATH,
    DATABASE_URL: database.url,
    ANNEAL_DATA_DIR: folder,
    ...environment,
  };
  const command = promisify(execFile)(process.execPath, [main, 'import', 'openai', ...args], {
    cwd: folder,
    env,
  });
  return command.then(
    ({ stdout }) => ({ code: 0, output: stdout }),
    ({ code, stdout, stderr }) => ({ code, output: `${stdout}${stderr}` }),
  );
}

const place = () => ({ OPENAI_API_KEY: account.key, OPENAI_BASE_URL: `${account.url}/v1` });

test('says of each file and job what became of it, and the sums', { timeout: 60_000 }, async () => {
  const file = new File(['{}\n'], 'train.jsonl');
  const { id } = await account.client.files.create({ file, purpose: 'fine-tune' });
  const first = await anneal([], place());
  expect(first.output).toContain(`file 1/1  ${id}  imported`);
  expect(first).toMatchObject({ code: 0, output: expect.stringMatching(/\n1 files imported\n$/) });
  const again = await anneal(['--key', account.key, '--base-url', `${account.url}/v1`]);
  expect(again.output).toMatch(/\n1 files already here\n$/);
});

test('says what is missing or wrong in a line', { timeout: 60_000 }, async () => {
  expect(await anneal([])).toMatchObject({ code: 1, output: expect.stringContaining('--key') });
  const wrongKey = await anneal(['--key', 'sk-wrong-0123456789'], { OPENAI_BASE_URL: `${account.url}/v1` });
  expect(wrongKey).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^anneal: 401 Incorrect API key[^\n]*\n$/),
  });
  const wrongProject = await anneal(['--project', 'proj_none'], place());
  expect(wrongProject).toMatchObject({ code: 1, output: expect.stringContaining('no project proj_none') });
});
