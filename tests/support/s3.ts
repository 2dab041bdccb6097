// A real S3 server for a test file. TEST_S3_ENDPOINT selects an existing one; otherwise versitygw is built with Go or, without Go, s3rver
// is installed from npm. Both are kept in the git-ignored build/test-tools.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, rename, rm, rmdir, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll } from 'vitest';
import type { S3Settings } from '../../src/blobs/s3.ts';

const TOOLS = join(import.meta.dirname, '../../build/test-tools');
const VERSITYGW = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0';
const S3RVER = 's3rver@3.7.1';
const INSTALL_TIMEOUT_MS = 600_000;
const run = promisify(execFile);

export interface S3Server {
  /** The bucket is unique and does not exist yet. */
  settings: S3Settings;
  /** False for s3rver, which accepts any key. */
  checksKeys: boolean;
  /** With SIGKILL, to simulate a crash. Both are null for an external server. */
  kill: (() => Promise<void>) | null;
  restart: (() => Promise<void>) | null;
  stop(): Promise<void>;
}

/** Call at the top of a test file; the properties are available once its tests run. */
export function useS3(): S3Server {
  const server = {} as S3Server;
  beforeAll(async () => {
    Object.assign(server, await startS3());
  }, INSTALL_TIMEOUT_MS);
  afterAll(() => server.stop?.());
  return server;
}

export async function startS3(): Promise<S3Server> {
  const given = process.env.TEST_S3_ENDPOINT;
  if (given)
    return {
      settings: givenSettings(given),
      checksKeys: true,
      kill: null,
      restart: null,
      stop: async () => undefined,
    };
  const program = await findProgram();
  const directory = await mkdtemp(join(tmpdir(), 'anneal-test-s3-'));
  await mkdir(join(directory, 'data'));
  const port = await freePort();
  let child = await start(program, directory, port);
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise(done => child.once('exit', done));
    child.kill(signal);
    await gone;
  };
  return {
    settings: {
      bucket: newBucket(),
      endpoint: `http://127.0.0.1:${port}`,
      region: 'us-east-1',
      credentials: { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' },
    },
    checksKeys: program.checksKeys,
    kill: () => end('SIGKILL'),
    restart: async () => {
      child = await start(program, directory, port);
    },
    stop: async () => {
      await end('SIGTERM');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function givenSettings(endpoint: string): S3Settings {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = process.env;
  if (!accessKeyId || !secretAccessKey) {
    throw new Error('TEST_S3_ENDPOINT needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY');
  }
  return {
    bucket: newBucket(),
    endpoint,
    region: process.env.S3_REGION ?? 'us-east-1',
    credentials: { accessKeyId, secretAccessKey },
  };
}

function newBucket(): string {
  return `anneal-test-${randomBytes(6).toString('hex')}`;
}

// ---- server programs

interface Program {
  file: string;
  checksKeys: boolean;
  arguments(directory: string, port: number): string[];
}

async function findProgram(): Promise<Program> {
  await mkdir(TOOLS, { recursive: true });
  const hasGo = await run('go', ['version']).then(
    () => true,
    () => false,
  );
  return hasGo ? versitygw() : s3rver();
}

async function versitygw(): Promise<Program> {
  const file = join(TOOLS, 'versitygw');
  await installOnce(file, async unfinished => {
    await run('go', ['install', VERSITYGW], { env: { ...process.env, GOBIN: unfinished } });
    await copyFile(join(unfinished, 'versitygw'), `${file}.new`);
    await rename(`${file}.new`, file);
  });
  const credentials = ['--access', 'S3RVER', '--secret', 'S3RVER'];
  return {
    file,
    checksKeys: true,
    arguments: (directory, port) => [
      ...credentials,
      '--quiet',
      '--port',
      `127.0.0.1:${port}`,
      'posix',
      '--sidecar',
      join(directory, 'metadata'),
      join(directory, 'data'),
    ],
  };
}

async function s3rver(): Promise<Program> {
  const folder = join(TOOLS, 's3rver');
  await installOnce(folder, async unfinished => {
    await run('npm', ['install', '--prefix', unfinished, '--no-audit', '--no-fund', S3RVER]);
    await rename(unfinished, folder);
  });
  const script = join(folder, 'node_modules/s3rver/bin/s3rver.js');
  return {
    file: process.execPath,
    checksKeys: false,
    arguments: (directory, port) => [
      script,
      '--directory',
      join(directory, 'data'),
      '--address',
      '127.0.0.1',
      '--port',
      String(port),
      '--silent',
    ],
  };
}

/** Test files run concurrently: one installs, the others wait for it. */
async function installOnce(path: string, install: (unfinished: string) => Promise<void>): Promise<void> {
  const lock = `${path}.lock`;
  const unfinished = `${path}.unfinished`;
  while (!(await exists(path))) {
    const mine = await mkdir(lock).then(
      () => true,
      () => false,
    );
    if (!mine) {
      if (await isOld(lock)) await rmdir(lock).catch(() => undefined);
      await sleep(250);
      continue;
    }
    try {
      await rm(unfinished, { recursive: true, force: true });
      await mkdir(unfinished);
      await install(unfinished);
    } finally {
      await rm(unfinished, { recursive: true, force: true });
      await rmdir(lock);
    }
  }
}

async function isOld(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found !== null && Date.now() - found.mtimeMs > INSTALL_TIMEOUT_MS;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

// ---- server process

async function start(program: Program, directory: string, port: number): Promise<ChildProcess> {
  await mkdir(join(directory, 'metadata'), { recursive: true });
  const child = spawn(program.file, program.arguments(directory, port), {
    cwd: directory,
    stdio: 'ignore',
  });
  for (let attempt = 1; !(await answers(port)); attempt++) {
    if (child.exitCode !== null) throw new Error(`the S3 server ended with ${child.exitCode} at its start`);
    if (attempt === 400) throw new Error('the S3 server does not answer');
    await sleep(25);
  }
  return child;
}

async function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`).then(
    response => response.body?.cancel().then(() => true) ?? true,
    () => false,
  );
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise(done => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('no free port on 127.0.0.1');
  return address.port;
}
