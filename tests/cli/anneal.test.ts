import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { API_NODE_FLAGS } from '../../src/start.ts';
import { findCaller } from '../../src/store/api-keys.ts';
import { useDatabase } from '../support/postgres.ts';
import { startHub } from './hub-server.ts';

const program = join(import.meta.dirname, '../../bin/anneal.mjs');
const tiny = join(import.meta.dirname, '../golden/llama-tiny');
const database = useDatabase();
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-cli-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function anneal(args: string[], environment: Record<string, string> = {}) {
  const env = {
    ...process.env,
    DATABASE_URL: database.url,
    ANNEAL_DATA_DIR: folder,
    S3_BUCKET: '',
    HF_TOKEN: '',
    ...environment,
  };
  const child = spawn(process.execPath, [program, ...args], { cwd: folder, env });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', chunk => (stdout += chunk));
  child.stderr.on('data', chunk => (stderr += chunk));
  return new Promise<{ code: number | null; stdout: string; stderr: string }>(done =>
    child.once('close', code => done({ code, stdout, stderr })),
  );
}

describe('bin/anneal.mjs', { timeout: 120_000 }, () => {
  test('models add <folder>, then models list', async () => {
    const added = await anneal(['models', 'add', tiny, '--id', 'by-cli']);
    expect(added).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^by-cli \(llama, .* is registered\n$/),
    });
    expect(added.stderr).toContain('model.safetensors');
    const list = await anneal(['models', 'list']);
    expect(list.stdout).toMatch(/^by-cli +llama /m);
  });

  test('models add <hub id> downloads from HF_ENDPOINT and leaves nothing behind', async () => {
    const hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: tiny });
    const added = await anneal(['models', 'add', 'team/tiny'], { HF_ENDPOINT: hub.url });
    await hub.close();
    expect(added).toMatchObject({ code: 0, stdout: expect.stringMatching(/^tiny \(llama/) });
  });

  test('what is neither a folder nor a hub id is said in one line', async () => {
    const { code, stderr } = await anneal(['models', 'add', 'nothing-here']);
    expect(code).toBe(1);
    expect(stderr.trim()).toMatch(/^anneal: nothing-here is neither a folder .*$/);
  });

  test('keys create prints a key that opens the api', async () => {
    const { code, stdout } = await anneal(['keys', 'create', '--name', 'ci']);
    expect(code).toBe(0);
    expect(await findCaller(database.pool, stdout.trim())).toMatchObject({ projectId: 'proj_default' });
  });

  test('the api has the flags of all apis', async () => {
    const saying = '--import=data:text/javascript,console.error(...process.execArgv)';
    const api = await anneal(['api'], { NODE_OPTIONS: saying, PORT: 'none' });
    expect(api).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(API_NODE_FLAGS.join(' ')),
    });
    const models = await anneal(['models', 'list'], { NODE_OPTIONS: saying });
    expect(models.stderr).not.toContain(API_NODE_FLAGS[0]);
  });

  test('a key of a new project sees another project', async () => {
    const { stdout } = await anneal(['keys', 'create', '--project', 'second']);
    const caller = await findCaller(database.pool, stdout.trim());
    expect(caller!.projectId).not.toBe('proj_default');
  });
});
