// The service as a process of the quickstart: started, waited for, and stopped with everything that it started.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Service {
  /** `http://127.0.0.1:port` */
  readonly address: string;
  /** What it said last, for when something goes wrong. */
  lastLines(): string;
  /** Resolves when it and its processes are gone. */
  stop(): Promise<void>;
}

export interface ServiceOptions {
  readonly root: string;
  /** Its data folder. */
  readonly home: string;
  readonly key: string;
  readonly signal: AbortSignal;
}

const START_TIMEOUT_MS = 120_000;
const KEPT_LINES = 20;

/** On a free port, with nothing from the caller's environment that names another database or store. */
export async function startService({ root, home, key, signal }: ServiceOptions): Promise<Service> {
  const { DATABASE_URL: _database, S3_BUCKET: _bucket, S3_ENDPOINT: _endpoint, ...inherited } = process.env;
  const child = spawn(process.execPath, [join(root, 'src', 'main.ts'), 'start'], {
    cwd: home,
    // A group of its own: Ctrl-C comes to us, and we stop it. If we are killed, the closed channel tells it.
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
