// The api under load: reads and pages over many jobs and events with one and two api processes, then many uploads at once.
// Usage: node benchmarks/api.ts [--jobs 100000] [--events 10000000] [--rate 500] [--seconds 15] [--uploads 200] [--megabytes 50]
// Everything runs on loopback on a data folder that is removed afterwards; filling it with 10 million events takes minutes and 5 GB.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import pg from 'pg';
import { migrateAll } from '../src/migrate-all.ts';
import { startEmbeddedPostgres } from '../src/store/embedded-postgres.ts';

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '100000' },
    events: { type: 'string', default: '10000000' },
    rate: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '15' },
    uploads: { type: 'string', default: '200' },
    megabytes: { type: 'string', default: '50' },
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

interface Api {
  readonly url: string;
  readonly process: ChildProcess;
}

async function startApi(databaseUrl: string, folder: string): Promise<Api> {
  const child = spawn(process.execPath, [MAIN, 'api'], {
    env: {
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

interface Seeded {
  readonly newest: string;
  readonly lastJobs: string;
  readonly busiest: string;
  readonly lastEvents: string;
}

const oneId = async (client: pg.Client, sql: string): Promise<string> => (await client.query(sql)).rows[0].id;

/** A second between jobs; a million events on one of them, the rest spread. */
async function seed(client: pg.Client): Promise<Seeded> {
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
  await client.query(insertEvents, ['a', 'ftjob-', true, jobs - 1, events - EVENTS_OF_ONE]);
  const newest = `ftjob-${String(jobs).padStart(8, '0')}`;
  await client.query(insertEvents, ['b', newest, false, 1, EVENTS_OF_ONE]);
  await client.query('vacuum analyze');
  const nearEnd = (table: string, order: string, where = 'true') =>
    oneId(client, `select id from ${table} where ${where} order by ${order} offset 40 limit 1`);
  return {
    newest,
    busiest: newest,
    lastJobs: await nearEnd('jobs', 'created_at, id'),
    lastEvents: await nearEnd('job_events', 'sequence', `job_id = '${newest}'`),
  };
}

// ---- reads

function pathsOf({ newest, busiest, lastJobs, lastEvents }: Seeded): Record<string, string> {
  return {
    'a job': `/v1/fine_tuning/jobs/${newest}`,
    'jobs, first page': '/v1/fine_tuning/jobs?limit=20',
    'jobs, last page': `/v1/fine_tuning/jobs?limit=20&after=${lastJobs}`,
    'events, first page': `/v1/fine_tuning/jobs/${busiest}/events?limit=20`,
    'events, last page': `/v1/fine_tuning/jobs/${busiest}/events?limit=20&after=${lastEvents}`,
  };
}

/** The rate is shared by the processes. autocannon is in this process, which takes its part of the cores. */
async function measure(apis: readonly Api[], path: string): Promise<string> {
  const results = await Promise.all(
    apis.map(({ url }) =>
      autocannon({
        url: url + path,
        headers,
        connections: 20,
        duration: seconds,
        overallRate: rate / apis.length,
      }),
    ),
  );
  const worst = (pick: (result: autocannon.Result) => number) => Math.max(...results.map(pick));
  const total = results.reduce((sum, { requests }) => sum + requests.average, 0);
  const failed = results.reduce((sum, { non2xx, errors }) => sum + non2xx + errors, 0);
  const cells = [
    total,
    worst(r => r.latency.p50),
    worst(r => r.latency.p99),
    worst(r => r.latency.max),
    failed,
  ];
  return cells.map(cell => String(Math.round(cell * 10) / 10).padStart(8)).join('');
}

// ---- uploads

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

/** The same random bytes for all: what is measured is the way through the api. */
async function uploadMany(api: Api): Promise<void> {
  const bytes = new Blob([randomBytes(megabytes * 2 ** 20)]);
  let most = 0;
  let done = false;
  const watching = (async () => {
    while (!done) {
      most = Math.max(most, await residentMiB(api.process.pid!));
      await sleep(50);
    }
  })();
  const before = await residentMiB(api.process.pid!);
  const began = performance.now();
  const upload = async (): Promise<number> => {
    const form = new FormData();
    form.append('purpose', 'user_data');
    form.append('file', bytes, 'x.bin');
    return (await fetch(`${api.url}/v1/files`, { method: 'POST', headers, body: form })).status;
  };
  const statuses = await Promise.all(Array.from({ length: uploads }, upload));
  const took = (performance.now() - began) / 1000;
  done = true;
  await watching;
  const good = statuses.filter(status => status === 200).length;
  console.log(
    `${uploads} uploads of ${megabytes} MiB at once: ${good} stored in ${took.toFixed(1)} s (${Math.round((good * megabytes) / took)} MiB/s); ` +
      `the process took ${Math.round(before)} MiB before and ${Math.round(most)} MiB at most`,
  );
}

// ---- run

const folder = await mkdtemp(join(tmpdir(), 'anneal-benchmark-api-'));
const database = await startEmbeddedPostgres({ directory: join(folder, 'postgres') });
const apis: Api[] = [];
try {
  await migrateAll(database.url);
  apis.push(await startApi(database.url, folder));
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  console.log(`filling a database with ${jobs} jobs and ${events} events`);
  const seeded = await seed(client);
  await client.end();
  console.log(
    `${rate} requests/s for ${seconds} s each, on ${availableParallelism()} cores shared with Postgres and the client\n`,
  );
  console.log(`${'processes'.padEnd(10)}${'read'.padEnd(22)}   req/s     p50     p99     max  failed`);
  for (const count of [1, 2]) {
    while (apis.length < count) apis.push(await startApi(database.url, folder));
    for (const [name, path] of Object.entries(pathsOf(seeded)))
      console.log(`${String(count).padEnd(10)}${name.padEnd(22)}${await measure(apis, path)}`);
  }
  for (const api of apis.splice(0)) await stopApi(api);
  apis.push(await startApi(database.url, folder)); // a fresh one: its memory is that of uploads alone
  console.log('');
  await uploadMany(apis[0]!);
} finally {
  for (const api of apis) await stopApi(api);
  await database.stop();
  await rm(folder, { recursive: true, force: true });
}
