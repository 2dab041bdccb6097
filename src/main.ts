// The program: `anneal start | api | worker | migrate | openapi | keys | models | import`. It wires and starts the parts, and is the only
// place that handles signals and exits.
import { writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Command } from 'commander';
import type pg from 'pg';
import packageJson from '../package.json' with { type: 'json' };
import { ensureKeys } from './api-key.ts';
import { buildApp } from './app.ts';
import { registerModelsIn } from './cli/add-model.ts';
import type { CommandContext } from './cli/context.ts';
import { addImportCommands } from './cli/import-commands.ts';
import { addKeyCommands } from './cli/key-commands.ts';
import { addModelCommands } from './cli/model-commands.ts';
import { type Config, ConfigError, loadConfig } from './config.ts';
import { type Deps, openDeps } from './deps.ts';
import { openLog } from './log.ts';
import { migrateAll } from './migrate-all.ts';
import { ModelError } from './models/model-error.ts';
import { openTelemetry } from './monitoring/open-telemetry.ts';
import { embeddedDirectory, startAll } from './start.ts';
import { openPool } from './store/database.ts';
import { findRunningPostgres, startEmbeddedPostgres } from './store/embedded-postgres.ts';
import type { ReadyMessage } from './supervisor.ts';
import { checkDatabase, checkDataDirectory, checkDevice, listenFailure } from './surroundings.ts';

/** Deadline for a graceful shutdown. */
const STOP_DEADLINE_MS = 45_000;

const program = new Command('anneal')
  .description('Self-hosted fine-tuning that speaks the OpenAI fine-tuning protocol.')
  .version(packageJson.version)
  .addHelpText(
    'after',
    '\nSettings are environment variables, or lines of a file .env; .env.example lists all of them.',
  );

program
  .command('start')
  .description('run everything on this machine: database (unless DATABASE_URL is set), api and workers')
  .action(() => run(start));

program
  .command('api')
  .description('run one api; needs DATABASE_URL and a migrated database')
  .action(() => run(config => serve(config, 'api', startApi)));

program
  .command('worker')
  .description(
    'run one worker, which validates files, trains, evaluates and runs batches; needs DATABASE_URL',
  )
  .action(() =>
    run(async config => {
      const { startAnsweringWorker } = await import('./answering-worker.ts'); // not loaded by the api
      await serve(config, 'worker', startAnsweringWorker);
    }),
  );

program
  .command('migrate')
  .description('apply missing database migrations')
  .action(() => run(runMigrations));

program
  .command('openapi')
  .description('write the OpenAPI document')
  .option('-o, --output <file>', 'file to write', join(import.meta.dirname, '../openapi/openapi.json'))
  .action(({ output }: { output: string }) => run(config => writeOpenapi(config, output)));

const commandContext: CommandContext = { run, withDatabase: withMigratedDatabase };
addModelCommands(program, commandContext);
addKeyCommands(program, commandContext);
addImportCommands(program, commandContext);

await program.parseAsync();

// ---- modes

interface Running {
  close(): Promise<void>;
}

async function start(config: Config): Promise<void> {
  await checkSurroundings(config);
  await checkDevice(config);
  const stopped = untilStopped();
  const started = await startAll({ config, environment: process.env, program: import.meta.filename, say });
  say(
    `listening on ${started.address} (OpenAI base URL: ${started.address}/v1, documentation: ${started.address}/docs)`,
  );
  if (started.newKey) say(`API key (shown only this once): ${started.newKey}`);
  say(await stopped);
  await started.stop();
}

/** Runs an api or a worker: on its own, or as a child of `start`, which is notified when it is ready. */
async function serve(
  config: Config,
  name: 'api' | 'worker',
  open: (deps: Deps) => Promise<Running & { address?: string }>,
) {
  await checkSurroundings(config);
  if (!process.send) await checkDevice(config); // otherwise `start` has checked it
  const stopped = untilStopped();
  const telemetry = await openTelemetry(config, name);
  const { deps, close } = await openDeps({ ...config, databaseUrl: await databaseUrlOf(config) }, name);
  try {
    await registerModels(deps);
    const running = await open(deps);
    const { address } = running;
    deps.log.info({ address }, 'ready');
    process.send?.({ type: 'ready', address } satisfies ReadyMessage);
    deps.log.info(await stopped);
    await running.close();
  } finally {
    await close();
    await telemetry?.close();
  }
}

/** A folder that is not a valid model is logged and not served; the service starts without it. */
async function registerModels(deps: Deps): Promise<void> {
  const { refused } = await registerModelsIn(deps, deps.config.modelsDirectory);
  for (const { folder, reason } of refused)
    deps.log.error({ folder, error: reason }, 'a folder of ANNEAL_MODELS_DIR is not served');
}

async function startApi(deps: Deps): Promise<Running & { address: string }> {
  const { config } = deps;
  const newKey = await ensureKeys(config.databaseUrl!, config);
  if (newKey) say(`API key (shown only this once): ${newKey}`);
  const app = await buildApp(deps);
  await app.listen({ host: config.host, port: config.port }).catch(error => {
    throw listenFailure(error, config.host, config.port);
  });
  const { port } = app.server.address() as AddressInfo;
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return { address: `http://${host}:${port}`, close: () => app.close() };
}

async function runMigrations(config: Config): Promise<void> {
  await withDatabase(config, async url => {
    const applied = await migrateAll(url);
    say(applied.length > 0 ? `applied ${applied.join(', ')}` : 'the database is up to date');
  });
}

async function writeOpenapi(config: Config, output: string): Promise<void> {
  // no handler runs, so no dependencies are needed
  const app = await buildApp({ config, log: openLog({ level: 'silent', process: 'openapi' }) } as Deps);
  await app.ready();
  await writeFile(output, `${JSON.stringify(app.swagger(), null, 2)}\n`);
  await app.close();
  say(`wrote ${output}`);
}

async function checkSurroundings({ dataDirectory, databaseUrl }: Config): Promise<void> {
  await checkDataDirectory(dataDirectory);
  if (databaseUrl) await checkDatabase(databaseUrl);
}

// ---- databases

/** The configured database, or the embedded one of an `anneal start` that runs on this machine. */
async function databaseUrlOf(config: Config): Promise<string> {
  const url = config.databaseUrl ?? (await findRunningPostgres(embeddedDirectory(config)));
  if (!url)
    throw new ConfigError(
      'DATABASE_URL is empty and `anneal start` does not run here: set it, or use `start`',
    );
  return url;
}

/** Runs a short command on the database; starts the embedded one for it if it is not running. */
async function withDatabase(config: Config, work: (url: string) => Promise<void>): Promise<void> {
  await checkSurroundings(config);
  const url = config.databaseUrl ?? (await findRunningPostgres(embeddedDirectory(config)));
  if (url) return work(url);
  const database = await startEmbeddedPostgres({ directory: embeddedDirectory(config), onTrouble: say });
  try {
    await work(database.url);
  } finally {
    await database.stop();
  }
}

async function withMigratedDatabase(
  config: Config,
  work: (database: { pool: pg.Pool }) => Promise<void>,
): Promise<void> {
  await withDatabase(config, async url => {
    await migrateAll(url);
    const pool = openPool(url, openLog({ level: 'silent', process: 'cli' }), { max: 2 });
    try {
      await work({ pool });
    } finally {
      await pool.end();
    }
  });
}

// ---- the process

/** Runs a mode and exits. Expected errors are printed as one line, others with their stack. */
async function run(mode: (config: Config) => Promise<void>): Promise<never> {
  try {
    await mode(loadConfig());
    process.exit(0);
  } catch (error) {
    const { message, stack } = error as Error;
    say(
      error instanceof ConfigError || error instanceof ModelError || isExpected(error)
        ? message
        : (stack ?? message),
    );
    process.exit(1);
  }
}

/** An error of the environment (network, files, configuration), for which a stack is of no use. */
function isExpected(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return typeof code === 'string' || (error as Error).constructor === Error;
}

/** Resolves with the reason when the process has to stop: Ctrl-C, SIGTERM, or its `start` process has died. */
function untilStopped(): Promise<string> {
  return new Promise(done => {
    const stop = (reason: string) => {
      setTimeout(() => process.exit(1), STOP_DEADLINE_MS).unref();
      done(`${reason}: stopping`);
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(signal));
    process.on('disconnect', () => stop('the starter is gone'));
  });
}

function say(line: string): void {
  process.stderr.write(`anneal: ${line}\n`);
}
