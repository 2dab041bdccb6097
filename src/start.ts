// `anneal start`: everything on one machine: the api, the workers and, unless DATABASE_URL is set, a Postgres, each as a process.
import { join } from 'node:path';
import { ensureKeys } from './api-key.ts';
import type { Config } from './config.ts';
import { openLogFile } from './log-file.ts';
import { migrateAll } from './migrate-all.ts';
import { startEmbeddedPostgres } from './store/embedded-postgres.ts';
import { superviseProcess } from './supervisor.ts';

export interface Started {
  /** Where the api listens. */
  address: string;
  /** The API key that the first start has generated. */
  newKey: string | null;
  stop(): Promise<void>;
}

export interface StartOptions {
  config: Config;
  /** The environment that the processes inherit. */
  environment: Record<string, string | undefined>;
  /** main.ts */
  program: string;
  /** Prints a line for the user. */
  say(line: string): void;
}

/**
 * Node flags of the api; also in Dockerfile, package.json and bin/anneal.mjs. V8 frees the buffers of uploads when it collects the young
 * generation, which a smaller semi-space makes more frequent: 40 MB less memory before the first request, 70 MB less under many uploads.
 * The price, somewhat slower bursts of list requests, is in docs/performance.md.
 */
export const API_NODE_FLAGS = ['--max-semi-space-size=4'];

export async function startAll({ config, environment, program, say }: StartOptions): Promise<Started> {
  const running: { stop(): Promise<void> }[] = [];
  const stop = async () => {
    // the database stops last, because the others write to it until they have stopped
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
      const log = openLogFile(join(config.dataDirectory, 'logs', `${name}.log`), say);
      const onLine = (line: string) => {
        log(line);
        forwardLine(name, line, say);
      };
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

/** Each worker on a machine has its own port for metrics. */
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

// ---- output of the processes

/** Prints warnings, errors and lines that are not JSON. */
function forwardLine(name: string, line: string, say: (line: string) => void): void {
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
