// Checks of the environment before startup: is the data folder writable, does the database answer, does the device work, is the port
// free. A failure is a ConfigError that names the setting. Nothing stays open.
import { randomUUID } from 'node:crypto';
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { type Config, ConfigError, variables } from './config.ts';
import type { EngineOptions } from './engine/engine.ts';
import type { Probed } from './engine/probe-child.ts';
import { askWithSpec } from './queue/ask-child.ts';

const CONNECT_TIMEOUT_MS = 10_000;
/** CUDA may take many seconds to initialize on a busy machine. */
const PROBE_TIMEOUT_MS = 120_000;

/** Creates the folder if it does not exist. */
export async function checkDataDirectory(directory: string): Promise<void> {
  const probe = join(directory, `.probe-${randomUUID()}`);
  try {
    await makeFolder(directory);
    await writeFile(probe, '');
    await rm(probe);
  } catch (cause) {
    throw naming('ANNEAL_DATA_DIR', `${directory} cannot be written`, cause);
  }
}

/** Creates parents one by one, because Node's recursive mkdir never returns below /proc. */
async function makeFolder(directory: string): Promise<void> {
  try {
    await mkdir(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || (await isFolder(dirname(directory)))) throw error;
    await makeFolder(dirname(directory));
    await mkdir(directory).catch(ignoreExisting);
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    found => found.isDirectory(),
    () => false,
  );

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

export async function checkDatabase(databaseUrl: string): Promise<void> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: 'anneal check',
  });
  client.on('error', () => undefined); // reported by the query
  try {
    await client.connect();
    await client.query('select 1');
  } catch (cause) {
    const { host, port, database } = client;
    throw naming('DATABASE_URL', `the database ${database} at ${host}:${port} does not answer`, cause);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Checks settings that need more than the npm packages. `auto` uses what there is and is not checked. */
export async function checkDevice(config: Config): Promise<void> {
  const asked = (['engine', 'device', 'precision'] as const)
    .filter(key => config[key] !== variables[key].default && config[key] !== 'cpu')
    .map(key => `${variables[key].name}="${config[key]}"`);
  if (asked.length === 0) return;
  const { engine, device, precision, threads } = config;
  const refused = await probeEngine({ engine, device, precision, threads });
  if (refused !== null) throw new ConfigError(`${asked.join(', ')}: ${refused.split(/\s+/).join(' ')}`);
}

/** In a child process, because device libraries stay in memory and may crash their process. */
async function probeEngine(options: EngineOptions): Promise<string | null> {
  try {
    const { refused } = await askWithSpec<Probed>({
      module: join(import.meta.dirname, 'engine/probe-child.ts'),
      spec: options,
      what: 'trying the device',
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    return refused;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Wraps an error of `listen`. */
export const listenFailure = (cause: unknown, host: string, port: number): ConfigError =>
  naming('HOST, PORT', `cannot listen on ${host}:${port}`, cause);

function naming(setting: string, what: string, cause: unknown): ConfigError {
  const { message, code } = cause as NodeJS.ErrnoException;
  return new ConfigError(`${setting}: ${what}: ${message || code}`, { cause });
}
