// `anneal start`: everything on one machine. A Postgres of our own where none is named, the api, the workers, as processes.
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { ensureKeys } from './api-key.ts';
import type { Config } from './config.ts';
import { migrateAll } from './migrate-all.ts';
import { startEmbeddedPostgres } from './store/embedded-postgres.ts';
import { superviseProcess } from './supervisor.ts';

export interface Started {
  /** Where the api listens. */
  address: string;
  /** The key that was made, the first time. */
  newKey: string | null;
  stop(): Promise<void>;
}

export interface StartOptions {
  config: Config;
  /** The environment that the processes inherit. */
  environment: Record<string, string | undefined>;
  /** main.ts */
  program: string;
  /** For people. */
  say(line: string): void;
}

/**
 * What the api is run with; also in Dockerfile, package.json and bin/anneal.mjs. V8 frees the buffers of uploads when it collects its
 * young objects, and with less room for these it does so more often: 40 MB less before the first request, 70 less under many uploads.
 * The price is in docs/performance.md: bursts of lists take somewhat longer.
 */
export const API_NODE_FLAGS = ['--max-semi-space-size=4'];

export async function startAll({ config, environment, program, say }: StartOptions): Promise<Started> {
  const running: { stop(): Promise<void> }[] = [];
  const stop = async () => {
    // the api and the workers end together; the database, which they write to until then, ends last
    const [database, ...processes] = running;
    await Promise.all(processes.map(process => process.stop()));
    await database?.stop();
  };
  try {
    const database = await openDatabase(config, say);
    running.push(database);
    await migrateAll(database.url);
    const newKey = await ensureKeys(database.url, config);
    const startProcess = async (
      name: string,
      mode: string,
      { settings = {}, nodeFlags = [] }: { settings?: Record<string, string>; nodeFlags?: string[] } = {},
    ) => {
      const env = { ...environment, DATABASE_URL: database.url, ...settings };
      const log = openLogFile(config, name);
      const onLine = (line: string) => forwardLine(name, line, log, say);
      const process = await superviseProcess({
        name,
        module: program,
        args: [mode],
        env,
        nodeFlags,
        onLine,
        onTrouble: say,
      });
      running.push(process);
      return process;
    };
    const api = await startProcess('api', 'api', { nodeFlags: API_NODE_FLAGS });
    for (let number = 1; number <= config.workers; number++)
      await startProcess(`worker-${number}`, 'worker', { settings: portOfWorker(config, number) });
    return { address: api.ready.address!, newKey, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Workers on one machine have a port for their metrics each. */
function portOfWorker({ workerMetricsPort: first }: Config, number: number): Record<string, string> {
  return first === null ? {} : { ANNEAL_WORKER_METRICS_PORT: String(first + number - 1) };
}

async function openDatabase(
  config: Config,
  say: (line: string) => void,
): Promise<{ url: string; stop(): Promise<void> }> {
  if (config.databaseUrl) return { url: config.databaseUrl, stop: async () => undefined };
  return startEmbeddedPostgres({ directory: embeddedDirectory(config), onTrouble: say });
}

export function embeddedDirectory(config: Config): string {
  return join(config.dataDirectory, 'postgres');
}

// ---- what the processes write

function openLogFile(config: Config, name: string): WriteStream {
  const folder = join(config.dataDirectory, 'logs');
  mkdirSync(folder, { recursive: true });
  return createWriteStream(join(folder, `${name}.log`), { flags: 'a' });
}

/** All lines go to the log file; warnings, errors and what is not a log line are said too. */
function forwardLine(name: string, line: string, log: WriteStream, say: (line: string) => void): void {
  log.write(`${line}\n`);
  const entry = parseEntry(line);
  if (!entry) say(`${name}: ${line}`);
  else if (['warn', 'error', 'fatal'].includes(entry.level))
    say(`${name}: ${[entry.msg, entry.detail].filter(Boolean).join(': ')}`);
}

function parseEntry(line: string): { level: string; msg: string; detail: string | undefined } | null {
  try {
    const { level, msg, err, error } = JSON.parse(line);
    return { level, msg, detail: err?.message ?? error?.message ?? error };
  } catch {
    return null;
  }
}
