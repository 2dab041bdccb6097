// The api under load: reads and pages over many jobs and events with one and two api processes, then many uploads at once.
// Usage: node benchmarks/api.ts [--jobs 100000] [--events 10000000] [--rate 500] [--seconds 15] [--uploads 200] [--megabytes 50] [--data <folder>]
// Everything runs on loopback. --rate 0 leaves the reads out, --uploads 0 the uploads. The data folder is removed afterwards, unless
// --data names one: that is filled when it is not there, and used again. 10 million events are 3.5 GB.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import pg from 'pg';
import { migrateAll } from '../src/migrate-all.ts';
import { API_NODE_FLAGS } from '../src/start.ts';
import { startEmbeddedPostgres } from '../src/store/embedded-postgres.ts';

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '100000' },
    events: { type: 'string', default: '10000000' },
    rate: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '15' },
    uploads: { type: 'string', default: '200' },
    megabytes: { type: 'string', default: '50' },
    data: { type: 'string' },
  },
});
const [jobs, events, rate, seconds] = [values.jobs, values.events, values.rate, values.seconds].map(
  Number,
) as [number, number, number, number];
const [uploads, megabytes] = [Number(values.uploads), Number(values.megabytes)];
const KEY = 'sk-benchmark-0123456789';
const MAIN = join(import.meta.dirname, '../src/main.ts');
const headers = { authorization: `Bearer ${KEY}` };
/** Events of the one job that has many; the others share the rest. */
const EVENTS_OF_ONE = Math.min(1_000_000, Math.floor(events / 2));

const CONNECTIONS = 20;
const FLOWS = ['even', 'burst'] as const;
type Flow = (typeof FLOWS)[number];

/** For each read. A process compiles its code with its first requests, and opens its sessions: they are not measured. */
const WARM_UP_SECONDS = 2;

/** What /proc counts processor time in. */
const TICK_MS = 10;

interface Api {
  readonly url: string;
  readonly process: ChildProcess;
}

/** With what `npm run api` runs it with. */
async function startApi(databaseUrl: string, folder: string): Promise<Api> {
  const child = spawn(process.execPath, [...API_NODE_FLAGS, MAIN, 'api'], {
    env: {
      NODE_COMPILE_CACHE: join(folder, 'cache', 'node'),
      ...process.env,
      DATABASE_URL: databaseUrl,
      ANNEAL_DATA_DIR: folder,
      ANNEAL_MODELS_DIR: folder,
      ANNEAL_API_KEY: KEY,
      ANNEAL_LOG_LEVEL: 'info',
      PORT: '0',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', line => {
      const { address } = JSON.parse(line);
      if (address) resolve(address);
    });
    child.once('exit', code => reject(new Error(`the api ended with ${code}`)));
  });
  return { url, process: child };
}

async function stopApi({ process: child }: Api): Promise<void> {
  const gone = new Promise(done => child.once('exit', done));
  child.kill('SIGTERM');
  await gone;
}

// ---- data

/** The newest job, which is also the one with most events. */
const NEWEST = `ftjob-${String(jobs).padStart(8, '0')}`;

interface Seeded {
  readonly lastJobs: string;
  readonly lastEvents: string;
}

const oneId = async (client: pg.Client, sql: string): Promise<string> => (await client.query(sql)).rows[0].id;

/** A second between jobs; a million events on one of them, the rest spread. */
async function fill(client: pg.Client): Promise<void> {
  console.log(`filling a database with ${jobs} jobs and ${events} events`);
  const project = await oneId(client, 'select id from projects limit 1');
  await client.query(
    `insert into models (id, kind, architecture, owned_by, files) values ('m', 'base', 'llama', 'x', '[]')`,
  );
  await client.query(
    `insert into jobs (id, project_id, created_at, status, model, training_file, seed, method)
     select 'ftjob-' || lpad(n::text, 8, '0'), $1, now() - make_interval(secs => $2 - n), 'succeeded', 'm', 'file-x', 1,
       '{"type": "supervised", "supervised": {"hyperparameters": {}}}'
     from generate_series(1, $2::int) as n`,
    [project, jobs],
  );
  const insertEvents = `insert into job_events (id, job_id, level, type, message)
     select 'ftevent-' || $1 || '-' || n, $2 || case when $3 then lpad((1 + n % $4::int)::text, 8, '0') else '' end, 'info', 'message', 'Step ' || n
     from generate_series(1, $5::int) as n`;
  await withoutIndexes(client, 'job_events', async () => {
    await client.query(insertEvents, ['a', 'ftjob-', true, jobs - 1, events - EVENTS_OF_ONE]);
    await client.query(insertEvents, ['b', NEWEST, false, 1, EVENTS_OF_ONE]);
  });
  await client.query('vacuum analyze');
}

/** Many rows come several times faster into a table whose keys and indexes are made when it is full. */
async function withoutIndexes(client: pg.Client, table: string, insert: () => Promise<void>): Promise<void> {
  const keys = await client.query<{ name: string; definition: string }>(
    `select conname as name, pg_get_constraintdef(oid) as definition from pg_constraint
     where conrelid = $1::regclass and contype in ('p', 'u', 'f')`,
    [table],
  );
  for (const { name } of keys.rows) await client.query(`alter table ${table} drop constraint ${name}`);
  const indexes = await client.query<{ name: string; definition: string }>(
    'select indexname as name, indexdef as definition from pg_indexes where tablename = $1',
    [table],
  );
  for (const { name } of indexes.rows) await client.query(`drop index ${name}`);
  await insert();
  await client.query("set maintenance_work_mem = '512MB'");
  for (const { name, definition } of keys.rows)
    await client.query(`alter table ${table} add constraint ${name} ${definition}`);
  for (const { definition } of indexes.rows) await client.query(definition);
}

async function findSeeded(client: pg.Client): Promise<Seeded> {
  const nearEnd = (table: string, order: string, where = 'true') =>
    oneId(client, `select id from ${table} where ${where} order by ${order} offset 40 limit 1`);
  return {
    lastJobs: await nearEnd('jobs', 'created_at, id'),
    lastEvents: await nearEnd('job_events', 'sequence', `job_id = '${NEWEST}'`),
  };
}

/** Fills the database, or finds it filled by an earlier run. */
async function seed(databaseUrl: string): Promise<Seeded> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const count = async (table: string) =>
    Number((await client.query(`select count(*) from ${table}`)).rows[0].count);
  if ((await count('jobs')) === 0) await fill(client);
  const there = [await count('jobs'), await count('job_events')];
  if (there.join() !== [jobs, events].join())
    throw new Error(
      `${folder} holds ${there[0]} jobs and ${there[1]} events: remove it, or name these numbers`,
    );
  const seeded = await findSeeded(client);
  await client.end();
  return seeded;
}

// ---- reads

function pathsOf({ lastJobs, lastEvents }: Seeded): Record<string, string> {
  return {
    'a job': `/v1/fine_tuning/jobs/${NEWEST}`,
    'jobs, first page': '/v1/fine_tuning/jobs?limit=20',
    'jobs, last page': `/v1/fine_tuning/jobs?limit=20&after=${lastJobs}`,
    'events, first page': `/v1/fine_tuning/jobs/${NEWEST}/events?limit=20`,
    'events, last page': `/v1/fine_tuning/jobs/${NEWEST}/events?limit=20&after=${lastEvents}`,
  };
}

async function measure(apis: readonly Api[], serverPid: number, path: string, flow: Flow): Promise<string> {
  const before = await cpuMilliseconds(apis, serverPid);
  const { latencies, failed } = await load(apis, path, flow, seconds);
  const after = await cpuMilliseconds(apis, serverPid);
  latencies.sort((x, y) => x - y);
  const quantile = (share: number) => latencies[Math.floor(share * (latencies.length - 1))] ?? Number.NaN;
  const cells = [
    latencies.length / seconds,
    quantile(0.5),
    quantile(0.99),
    quantile(1),
    failed,
    ...after.map((each, i) => (each - before[i]!) / latencies.length),
  ];
  return cells.map(cell => String(Math.round(cell * 100) / 100).padStart(8)).join('');
}

interface Seen {
  /** In milliseconds. */
  readonly latencies: number[];
  readonly failed: number;
}

/**
 * The rate is shared by the processes and by CONNECTIONS connections. autocannon sends what a connection may send in a second
 * at its beginning; so 'burst', where all begin together, is 20 requests at once until the second's are done, and 'even', where
 * they begin one after the other, is a steady flow. autocannon is in this process, which takes its part of the cores.
 */
async function load(apis: readonly Api[], path: string, flow: Flow, duration: number): Promise<Seen> {
  const all = await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, i) => {
      if (flow === 'even') await sleep((i * 1000) / CONNECTIONS);
      return await loadOne(apis[i % apis.length]!.url + path, duration);
    }),
  );
  return {
    latencies: all.flatMap(one => one.latencies),
    failed: all.reduce((sum, one) => sum + one.failed, 0),
  };
}

/** By one connection. */
function loadOne(url: string, duration: number): Promise<Seen> {
  const latencies: number[] = [];
  const options = { url, headers, connections: 1, duration, overallRate: rate / CONNECTIONS };
  return new Promise((done, fail) => {
    const instance = autocannon(options, (error, { non2xx, errors }) =>
      error ? fail(error) : done({ latencies, failed: non2xx + errors }),
    );
    instance.on('response', (_client, _status, _bytes, milliseconds) => latencies.push(milliseconds));
  });
}

/** Processor time so far of the apis, of Postgres, and of the client, which is this process. */
async function cpuMilliseconds(apis: readonly Api[], serverPid: number): Promise<number[]> {
  const pids = (await readdir('/proc')).map(Number).filter(pid => pid > 0);
  const processes = await Promise.all(pids.map(readTimes));
  const sum = (isMeant: (each: ProcessTimes) => boolean) =>
    processes.filter(isMeant).reduce((total, { milliseconds }) => total + milliseconds, 0);
  const { user, system } = process.cpuUsage();
  return [
    sum(({ pid }) => apis.some(api => api.process.pid === pid)),
    sum(({ pid, parent }) => pid === serverPid || parent === serverPid),
    (user + system) / 1000,
  ];
}

interface ProcessTimes {
  readonly pid: number;
  readonly parent: number;
  /** Its own and those of the children it has seen end. */
  readonly milliseconds: number;
}

/** proc_pid_stat(5); a process that is gone has taken nothing. */
async function readTimes(pid: number): Promise<ProcessTimes> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const ticks = [11, 12, 13, 14].reduce((sum, i) => sum + (fields[i] ?? 0), 0);
  return { pid, parent: fields[1] ?? 0, milliseconds: ticks * TICK_MS };
}

// ---- uploads

/** Of a process: now, and at most since it began; as proc_pid_status(5) names them. */
async function residentMiB(pid: number, which: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(new RegExp(`${which}:\\s+(\\d+)`).exec(status)![1]) / 1024);
}

/** The same random bytes for all: what is measured is the way through the api. */
async function uploadMany(api: Api): Promise<void> {
  const bytes = new Blob([randomBytes(megabytes * 2 ** 20)]);
  const before = await residentMiB(api.process.pid!, 'VmRSS');
  const began = performance.now();
  const upload = async (): Promise<number> => {
    const form = new FormData();
    form.append('purpose', 'user_data');
    form.append('file', bytes, 'x.bin');
    return (await fetch(`${api.url}/v1/files`, { method: 'POST', headers, body: form })).status;
  };
  const statuses = await Promise.all(Array.from({ length: uploads }, upload));
  const took = (performance.now() - began) / 1000;
  const most = await residentMiB(api.process.pid!, 'VmHWM');
  const good = statuses.filter(status => status === 200).length;
  console.log(
    `${uploads} uploads of ${megabytes} MiB at once: ${good} stored in ${took.toFixed(1)} s (${Math.round((good * megabytes) / took)} MiB/s); ` +
      `the process took ${before} MiB before and ${most} MiB at most`,
  );
}

async function measureReads(apis: Api[], databaseUrl: string, serverPid: number): Promise<void> {
  const paths = pathsOf(await seed(databaseUrl));
  console.log(
    `${rate} requests/s for ${seconds} s each, on ${availableParallelism()} cores shared with Postgres and the client; ` +
      'latencies and processor time per request in ms\n',
  );
  console.log(
    `${'processes'.padEnd(10)}${'flow'.padEnd(6)}${'read'.padEnd(19)}   req/s     p50     p99     max  failed     api      db  client`,
  );
  for (const count of [1, 2]) {
    while (apis.length < count) apis.push(await startApi(databaseUrl, folder));
    for (const path of Object.values(paths)) await load(apis, path, 'burst', WARM_UP_SECONDS);
    for (const flow of FLOWS)
      for (const [name, path] of Object.entries(paths))
        console.log(
          `${String(count).padEnd(10)}${flow.padEnd(6)}${name.padEnd(19)}${await measure(apis, serverPid, path, flow)}`,
        );
  }
}

// ---- run

const folder = values.data ?? (await mkdtemp(join(tmpdir(), 'anneal-benchmark-api-')));
const database = await startEmbeddedPostgres({ directory: join(folder, 'postgres') });
const apis: Api[] = [];
try {
  await migrateAll(database.url);
  apis.push(await startApi(database.url, folder));
  if (rate > 0) await measureReads(apis, database.url, database.pid);
  for (const api of apis.splice(0)) await stopApi(api);
  if (uploads > 0) {
    apis.push(await startApi(database.url, folder)); // a fresh one: its memory is that of uploads alone
    await uploadMany(apis[0]!);
  }
} finally {
  for (const api of apis) await stopApi(api);
  await database.stop();
  await rm(values.data ? join(folder, 'objects') : folder, { recursive: true, force: true });
}
