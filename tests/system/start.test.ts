// `anneal start` as a user runs it: one command, several processes, and none of them left when it ends.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterEach, beforeEach, expect, test } from 'vitest';

const main = join(import.meta.dirname, '../../src/main.ts');
let folder: string;
let started: ChildProcess[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-test-start-'));
  await mkdir(join(folder, 'models'));
  started = [];
});

afterEach(async () => {
  for (const child of started) child.kill('SIGKILL');
  for (const pid of await ownProcesses()) process.kill(pid, 'SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  child: ChildProcess;
  output(): string;
}

function anneal(args: string[], environment: Record<string, string> = {}): Run {
  const env = {
    PATH: process.env.PATH,
    ANNEAL_DATA_DIR: join(folder, 'data'),
    ANNEAL_MODELS_DIR: join(folder, 'models'),
    PORT: '0',
    ...environment,
  };
  const child = spawn(process.execPath, [main, ...args], { cwd: folder, env });
  started.push(child);
  let text = '';
  child.stdout.on('data', chunk => (text += chunk));
  child.stderr.on('data', chunk => (text += chunk));
  return { child, output: () => text };
}

async function listening(run: Run): Promise<{ url: string; key: string | undefined }> {
  await expect.poll(run.output, { timeout: 40_000 }).toMatch(/listening on/);
  const output = run.output();
  return {
    url: /listening on (\S+)/.exec(output)![1]!,
    key: /API key \(shown only this once\): (\S+)/.exec(output)?.[1],
  };
}

async function ended(run: Run): Promise<number | null> {
  if (run.child.exitCode === null) await once(run.child, 'exit');
  return run.child.exitCode;
}

/** Everything that runs on our folder, by the data folder in its environment or arguments. */
async function ownProcesses(mode?: string): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter(Number.isInteger);
  const found = await Promise.all(
    pids.map(async pid => {
      const [args, env] = await Promise.all(
        ['cmdline', 'environ'].map(name => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '')),
      );
      const isOurs = (args! + env!).includes(folder) && pid !== process.pid;
      return isOurs && (!mode || args!.split('\0').includes(mode)) ? [pid] : [];
    }),
  );
  return found.flat();
}

test('starts with nothing configured, serves, and leaves nothing behind', { timeout: 90_000 }, async () => {
  const first = anneal(['start']);
  const { url, key } = await listening(first);
  expect(key).toMatch(/^sk-anneal-/);
  const client = new OpenAI({ apiKey: key!, baseURL: `${url}/v1` });
  expect((await client.models.list()).data).toEqual([]);
  expect(await (await fetch(`${url}/readyz`)).json()).toMatchObject({ status: 'ready' });

  const second = anneal(['start']);
  expect(await ended(second)).toBe(1);
  expect(second.output()).toMatch(/another anneal runs on .*ANNEAL_DATA_DIR/);

  const worker = (await ownProcesses('worker'))[0]!;
  process.kill(worker, 'SIGKILL');
  await expect.poll(() => ownProcesses('worker'), { timeout: 20_000 }).not.toContain(worker);
  await expect.poll(() => ownProcesses('worker'), { timeout: 20_000 }).toHaveLength(1);
  expect(first.output()).toMatch(/worker-1 ended \(SIGKILL\); starting it again/);

  first.child.kill('SIGINT');
  expect(await ended(first)).toBe(0);
  expect(await ownProcesses()).toEqual([]);

  const again = anneal(['start'], { ANNEAL_WORKERS: '0' });
  const { url: newUrl, key: newKey } = await listening(again);
  expect(newKey).toBeUndefined();
  await new OpenAI({ apiKey: key!, baseURL: `${newUrl}/v1` }).models.list();
  again.child.kill('SIGTERM');
  expect(await ended(again)).toBe(0);
  expect(await ownProcesses()).toEqual([]);
});

test('a start that was killed takes its processes along, and the next one goes on', {
  timeout: 60_000,
}, async () => {
  const first = anneal(['start'], { ANNEAL_WORKERS: '0', ANNEAL_API_KEY: 'my-own-key-123' });
  await listening(first);
  first.child.kill('SIGKILL');
  await expect.poll(() => ownProcesses('api'), { timeout: 15_000 }).toEqual([]);
  const second = anneal(['start'], { ANNEAL_WORKERS: '0' });
  const { url } = await listening(second);
  await new OpenAI({ apiKey: 'my-own-key-123', baseURL: `${url}/v1` }).models.list();
  second.child.kill('SIGTERM');
  expect(await ended(second)).toBe(0);
  expect(await ownProcesses()).toEqual([]);
});

test('a wrong setting stops it with a line that says which and why', async () => {
  const run = anneal(['start'], { PORT: '70000', ANNEAL_DEVICE: 'abacus' });
  expect(await ended(run)).toBe(1);
  expect(run.output()).toBe(
    'anneal: PORT="70000": must be a whole number from 0 to 65535\nANNEAL_DEVICE="abacus": must be one of auto, cpu, cuda, webgpu\n',
  );
});

test('what settings name and cannot be used is said with the setting', { timeout: 40_000 }, async () => {
  const cases: [Record<string, string>, RegExp][] = [
    [
      { ANNEAL_DATA_DIR: '/proc/anneal/data' },
      /^anneal: ANNEAL_DATA_DIR: \/proc\/anneal\/data cannot be written/,
    ],
    [
      { DATABASE_URL: 'postgresql://me:secret@127.0.0.1:1/mine' },
      /^anneal: DATABASE_URL: the database mine at 127.0.0.1:1 does not answer: .*ECONNREFUSED/,
    ],
    [
      { ANNEAL_DEVICE: 'webgpu', ANNEAL_PRECISION: 'bfloat16' },
      /^anneal: ANNEAL_DEVICE="webgpu", ANNEAL_PRECISION="bfloat16": the device webgpu has no products in bfloat16: the device cuda has\n$/,
    ],
  ];
  for (const [settings, line] of cases) {
    const run = anneal(['start'], settings);
    expect(await ended(run)).toBe(1);
    expect(run.output()).toMatch(line);
    expect(run.output()).not.toContain('secret');
  }
});

test('api and worker alone need a database, and a migrated one', async () => {
  const without = anneal(['worker']);
  expect(await ended(without)).toBe(1);
  expect(without.output()).toMatch(/^anneal: DATABASE_URL is empty/);
  const help = anneal(['--help']);
  expect(await ended(help)).toBe(0);
  for (const mode of ['start', 'api', 'worker', 'migrate', 'openapi', 'models'])
    expect(help.output()).toContain(mode);
});

test('a port that is taken is said in a line', { timeout: 40_000 }, async () => {
  const first = anneal(['start'], { ANNEAL_WORKERS: '0' });
  const { url } = await listening(first);
  const second = anneal(['start'], {
    ANNEAL_WORKERS: '0',
    PORT: new URL(url).port,
    ANNEAL_DATA_DIR: join(folder, 'other'),
  });
  expect(await ended(second)).toBe(1);
  expect(second.output()).toMatch(/HOST, PORT: cannot listen on 127.0.0.1:\d+: .*EADDRINUSE/);
  first.child.kill('SIGTERM');
  await ended(first);
  expect(await ownProcesses()).toEqual([]);
});
