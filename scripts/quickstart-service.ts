// Runs the service as a child process of the quickstart: starts it, waits until it is ready, and stops it with all its processes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Service {
  /** `http://127.0.0.1:port` */
  readonly address: string;
  /** Its last output, for error messages. */
  lastLines(): string;
  /** Resolves when it and its processes have exited. */
  stop(): Promise<void>;
}

export interface ServiceOptions {
  readonly root: string;
  /** Data folder. */
  readonly home: string;
  readonly key: string;
  readonly signal: AbortSignal;
}

const START_TIMEOUT_MS = 120_000;
const KEPT_LINES = 20;

/** On a free port, without environment variables that select another database or object store. */
export async function startService({ root, home, key, signal }: ServiceOptions): Promise<Service> {
  const { DATABASE_URL: _database, S3_BUCKET: _bucket, S3_ENDPOINT: _endpoint, ...inherited } = process.env;
  const child = spawn(process.execPath, [join(root, 'src', 'main.ts'), 'start'], {
    cwd: home,
    // In its own process group, so that Ctrl-C reaches only us and we stop it. If we are killed, it notices by the closed IPC channel.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: {
      ...inherited,
      ANNEAL_DATA_DIR: home,
      ANNEAL_MODELS_DIR: join(root, 'models'),
      ANNEAL_API_KEY: key,
      HOST: '127.0.0.1',
      PORT: '0',
    },
  });
  const lines: string[] = [];
  const lastLines = () => lines.slice(-KEPT_LINES).join('\n');
  const ended = once(child, 'exit');
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended;
  };
  const output = createInterface(child.stderr!);
  const address = new Promise<string>((done, fail) => {
    output.on('line', line => {
      lines.push(line);
      const found = /listening on (http:\/\/\S+?)(?=[\s,)]|$)/.exec(line);
      if (found) done(found[1]!);
    });
    ended.then(() => fail(new Error(`the service ended at its start:\n${lastLines()}`)));
    setTimeout(() => fail(new Error(`the service did not start:\n${lastLines()}`)), START_TIMEOUT_MS).unref();
    signal.addEventListener('abort', () => fail(signal.reason as Error), { once: true });
  });
  try {
    return { address: await address, lastLines, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
