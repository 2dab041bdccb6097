// That what was used is in the database when a process has ended: orderly, all of it; killed, all but the last second.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useDatabase } from '../support/postgres.ts';

const KEY = 'sk-anneal-system-usage';
const MODEL = 'llama-tiny';
const root = join(import.meta.dirname, '../..');
const database = useDatabase();
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-test-usage-'));
  await mkdir(join(folder, 'models'));
  await cp(join(root, 'tests/golden', MODEL), join(folder, 'models', MODEL), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function startApi(): Promise<{ child: ChildProcess; client: OpenAI }> {
  const child = spawn(process.execPath, [join(root, 'src/main.ts'), 'api'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: database.url,
      ANNEAL_DATA_DIR: join(folder, 'data'),
      ANNEAL_MODELS_DIR: join(folder, 'models'),
      ANNEAL_API_KEY: KEY,
      PORT: '0',
    },
  });
  for await (const line of createInterface({ input: child.stdout! })) {
    const { msg, address } = JSON.parse(line);
    if (msg !== 'ready') continue;
    child.stdout!.resume();
    return { child, client: new OpenAI({ apiKey: KEY, baseURL: `${address}/v1` }) };
  }
  throw new Error('the api has not started');
}

const ask = (client: OpenAI) =>
  client.chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content: 'Hi' }],
    max_tokens: 2,
  });

async function recorded(): Promise<number> {
  const { rows } = await database.pool.query('select coalesce(sum(requests), 0)::int as requests from usage');
  return rows[0].requests;
}

test('nothing is lost when a process is told to end, a second at most when it is killed', async () => {
  const first = await startApi();
  for (let i = 0; i < 5; i++) await ask(first.client);
  first.child.kill('SIGTERM');
  await once(first.child, 'exit');
  expect(await recorded()).toBe(5);

  const second = await startApi();
  for (let i = 0; i < 3; i++) await ask(second.client);
  await sleep(2500);
  await ask(second.client);
  second.child.kill('SIGKILL');
  await once(second.child, 'exit');
  expect(await recorded()).toBeGreaterThanOrEqual(8);
}, 120_000);
