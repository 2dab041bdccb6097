// Soak: many jobs, a few workers, and every few seconds one of their processes killed with -9. All jobs must succeed, none
// twice, none lost, with the losses and the weights of an undisturbed run, bit for bit. Exits 1 otherwise.
//   node benchmarks/soak.ts --jobs 20 --seconds-between-kills 5
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import OpenAI, { toFile } from 'openai';
import pg from 'pg';
import { migrateAll } from '../src/migrate-all.ts';
import { startEmbeddedPostgres } from '../src/store/embedded-postgres.ts';

const { values: options } = parseArgs({
  options: {
    jobs: { type: 'string', default: '20' },
    workers: { type: 'string', default: '2' },
    'seconds-between-kills': { type: 'string', default: '5' },
    variants: { type: 'string', default: '4' },
    epochs: { type: 'string', default: '8' },
    model: { type: 'string', default: join(import.meta.dirname, '../tests/golden/llama-tiny') },
    'timeout-minutes': { type: 'string', default: '30' },
  },
});
const JOBS = Number(options.jobs);
const WORKERS = Number(options.workers);
const VARIANTS = Math.min(JOBS, Number(options.variants));
const KILL_MS = 1000 * Number(options['seconds-between-kills']);
const TIMEOUT_MS = 60_000 * Number(options['timeout-minutes']);
const PROGRAM = join(import.meta.dirname, '../src/main.ts');
const API_KEY = 'sk-anneal-soak-0123456789';
const EXAMPLES = 60;

/** What must be the same for every job of a variant. */
interface Outcome {
  losses: string;
  results: string;
  weights: string;
}

interface Verdict {
  job: string;
  variant: number;
  status: string;
  attempts: number;
  seconds: number;
  wrong: string[];
}

const directory = await mkdtemp(join(tmpdir(), 'anneal-soak-'));
const postgres = await startEmbeddedPostgres({ directory: join(directory, 'postgres') });
const processes = new Set<ChildProcess>();
let failed = true;
try {
  failed = !(await soak());
} catch (error) {
  console.error(error);
} finally {
  for (const child of processes) child.kill('SIGKILL');
  await postgres.stop();
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(failed ? 1 : 0);

async function soak(): Promise<boolean> {
  await migrateAll(postgres.url);
  const models = join(directory, 'models');
  await mkdir(models);
  await cp(options.model, join(models, basename(options.model)), { recursive: true });
  const api = await startProcess('api');
  const client = new OpenAI({ baseURL: `${api.address}/v1`, apiKey: API_KEY, maxRetries: 5 });
  const pool = new pg.Pool({ connectionString: postgres.url, max: 2 });
  pool.on('error', error => console.error(`database: ${error.message}`));

  const files = await uploadData(client);
  console.log(
    `${VARIANTS} undisturbed runs, then ${JOBS} jobs on ${WORKERS} workers, a kill every ${KILL_MS / 1000} s`,
  );
  const expected = await runUndisturbed(client, pool, files);

  const started = Date.now();
  const jobs: string[] = [];
  for (let index = 0; index < JOBS; index++) jobs.push(await createJob(client, files, index % VARIANTS));
  const killing = startKilling(
    await Promise.all(Array.from({ length: WORKERS }, () => startProcess('worker'))),
  );
  await Promise.race([waitForAll(client, jobs), killing.failed]);
  const seconds = (Date.now() - started) / 1000;
  await waitUntilClean(pool);
  const kills = await killing.stop();

  const verdicts: Verdict[] = [];
  for (const [index, job] of jobs.entries()) {
    verdicts.push(await judge(client, pool, job, index % VARIANTS, expected[index % VARIANTS]!));
  }
  const leftovers = await findLeftovers(client, pool, jobs);
  await pool.end();
  report(verdicts, leftovers, kills, seconds);
  return verdicts.every(verdict => verdict.wrong.length === 0) && leftovers.length === 0;
}

// ---- processes

interface Started {
  child: ChildProcess;
  address: string;
}

async function startProcess(mode: 'api' | 'worker'): Promise<Started> {
  const child = fork(PROGRAM, [mode], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: postgres.url,
      PORT: '0',
      ANNEAL_API_KEY: API_KEY,
      ANNEAL_DATA_DIR: join(directory, 'data'),
      ANNEAL_MODELS_DIR: join(directory, 'models'),
      ANNEAL_LEASE_SECONDS: '3',
      ANNEAL_CHECKPOINT_SECONDS: '1',
      ANNEAL_THREADS: '1',
      ANNEAL_LOG_LEVEL: 'error',
    },
  });
  processes.add(child);
  child.once('exit', () => processes.delete(child));
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`the ${mode} ended with ${code ?? signal} at its start`);
  });
  ended.catch(() => undefined);
  const [ready] = (await Promise.race([once(child, 'message'), ended])) as [{ address?: string }];
  return { child, address: ready.address ?? '' };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  await gone;
}

/** Kills one worker after the other at random moments, each replaced at once; its trainer must die with it. */
function startKilling(workers: Started[]) {
  const stopping = new AbortController();
  let kills = 0;
  async function loop(): Promise<void> {
    for (;;) {
      await sleep(KILL_MS * (0.5 + Math.random()), undefined, { signal: stopping.signal }).catch(
        () => undefined,
      );
      if (stopping.signal.aborted) return;
      const victim = Math.floor(Math.random() * workers.length);
      await end(workers[victim]!.child, 'SIGKILL');
      kills += 1;
      workers[victim] = await startProcess('worker');
    }
  }
  const ended = loop();
  return {
    /** Rejects when a worker does not start again. */
    failed: ended.then(() => new Promise<never>(() => undefined)),
    async stop(): Promise<number> {
      stopping.abort();
      await ended;
      await Promise.all(workers.map(({ child }) => end(child, 'SIGTERM')));
      return kills;
    },
  };
}

// ---- jobs, through the API

interface Files {
  training: string;
  validation: string;
}

async function uploadData(client: OpenAI): Promise<Files> {
  const upload = async (name: string, first: number, count: number) => {
    const lines = Array.from({ length: count }, (_, index) => line(first + index));
    const file = await toFile(Buffer.from(lines.join('\n')), name);
    return (await client.files.create({ purpose: 'fine-tune', file })).id;
  };
  return {
    training: await upload('training.jsonl', 0, EXAMPLES),
    validation: await upload('validation.jsonl', EXAMPLES, 6),
  };
}

function line(index: number): string {
  const animal = ['cat', 'dog', 'hen', 'cow', 'pig', 'fox'][index % 6];
  const messages = [
    { role: 'user', content: `What does number ${index}, a ${animal}, say?` },
    { role: 'assistant', content: `I am ${animal} ${(index * 7) % 13}.` },
  ];
  return JSON.stringify({ messages });
}

async function createJob(client: OpenAI, files: Files, variant: number): Promise<string> {
  const job = await client.fineTuning.jobs.create({
    model: basename(options.model),
    training_file: files.training,
    validation_file: files.validation,
    seed: variant,
    suffix: `variant-${variant}`,
    method: {
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: Number(options.epochs), batch_size: 2 } },
    },
  });
  return job.id;
}

async function runUndisturbed(client: OpenAI, pool: pg.Pool, files: Files): Promise<Outcome[]> {
  const jobs: string[] = [];
  for (let variant = 0; variant < VARIANTS; variant++) jobs.push(await createJob(client, files, variant));
  const { child } = await startProcess('worker');
  await waitForAll(client, jobs);
  await end(child, 'SIGTERM');
  const outcomes: Outcome[] = [];
  for (const job of jobs) outcomes.push(await readOutcome(client, pool, job, await readEvents(client, job)));
  return outcomes;
}

async function waitForAll(client: OpenAI, jobs: string[]): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS;
  const open = new Set(jobs);
  while (open.size > 0) {
    if (Date.now() > deadline) throw new Error(`${open.size} jobs did not end: ${[...open].join(', ')}`);
    await sleep(500);
    for (const id of open) {
      const { status } = await client.fineTuning.jobs.retrieve(id);
      if (!['succeeded', 'failed', 'cancelled'].includes(status)) continue;
      open.delete(id);
      if (process.stderr.isTTY) process.stderr.write(`\r${jobs.length - open.size}/${jobs.length} `);
    }
  }
}

interface JobEvent {
  message: string;
  type?: string;
  data?: unknown;
}

/** A worker killed right after a job's end leaves the cleaning to another, which sees it when the lease has run out. */
async function waitUntilClean(pool: pg.Pool): Promise<void> {
  for (let attempt = 0; attempt < 60; attempt++) {
    const { rowCount } = await pool.query('select 1 from jobs where lease_until is not null');
    if (!rowCount) return;
    await sleep(500);
  }
}

/** Oldest first. */
async function readEvents(client: OpenAI, job: string): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(job, { limit: 100 })) events.push(event);
  return events.reverse();
}

/** Losses in full precision, the results file, and the weights' hash. */
async function readOutcome(client: OpenAI, pool: pg.Pool, id: string, events: JobEvent[]): Promise<Outcome> {
  const job = await client.fineTuning.jobs.retrieve(id);
  if (job.status !== 'succeeded') throw new Error(`${id} is ${job.status}: ${job.error?.message}`);
  const losses = events.filter(event => event.type === 'metrics').map(event => JSON.stringify(event.data));
  const results = await client.files.content(job.result_files[0]!);
  const { rows } = await pool.query(
    `select file->>'sha256' as sha256 from models, jsonb_array_elements(files) as file
     where id = $1 and file->>'path' like '%.safetensors' order by 1`,
    [job.fine_tuned_model],
  );
  return {
    losses: losses.join('\n'),
    results: await results.text(),
    weights: rows.map(row => row.sha256).join(),
  };
}

// ---- judgement

async function judge(
  client: OpenAI,
  pool: pg.Pool,
  id: string,
  variant: number,
  expected: Outcome,
): Promise<Verdict> {
  const job = await client.fineTuning.jobs.retrieve(id);
  const events = await readEvents(client, id);
  const wrong: string[] = [];
  const { rows } = await pool.query('select attempt from jobs where id = $1', [id]);
  const seconds = (job.finished_at ?? 0) - job.created_at;
  const verdict: Verdict = {
    job: id,
    variant,
    status: job.status,
    attempts: rows[0].attempt - 1,
    seconds,
    wrong,
  };
  if (job.status !== 'succeeded') {
    wrong.push(job.error?.message ?? 'not succeeded');
    return verdict;
  }
  const found = await readOutcome(client, pool, id, events);
  for (const key of ['losses', 'results', 'weights'] as const) {
    if (found[key] !== expected[key]) wrong.push(`${key} differ`);
  }
  const said = events
    .map(event => event.message)
    .filter(message => !message.includes('the job continues from'));
  if (new Set(said).size !== said.length) wrong.push('an event twice');
  const checkpoints = await client.fineTuning.jobs.checkpoints.list(id);
  if (checkpoints.data.length !== 3) wrong.push(`${checkpoints.data.length} checkpoints`);
  return verdict;
}

/** Models that no job accounts for, objects that no row names, folders and leases that nobody holds. */
async function findLeftovers(client: OpenAI, pool: pg.Pool, jobs: string[]): Promise<string[]> {
  const leftovers: string[] = [];
  const models = (await client.models.list()).data.filter(model => model.id.startsWith('ft:'));
  const expected = (jobs.length + VARIANTS) * 4;
  if (models.length !== expected) leftovers.push(`${models.length} fine-tuned models instead of ${expected}`);
  const { rows: leases } = await pool.query('select id from jobs where lease_until is not null');
  if (leases.length > 0) leftovers.push(`${leases.length} leases`);
  const { rows: named } = await pool.query(
    `select file->>'key' as key from models, jsonb_array_elements(files) as file where deleted_at is null
     union select blob_key from files`,
  );
  const known = new Set(named.map(row => row.key));
  const objects = join(directory, 'data', 'objects');
  const entries = await readdir(join(objects, 'jobs'), { recursive: true, withFileTypes: true });
  const unknown = entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(objects.length + 1))
    .filter(key => !known.has(key));
  if (unknown.length > 0) leftovers.push(`${unknown.length} objects without a row: ${unknown[0]}`);
  const work = await readdir(join(directory, 'data', 'work'));
  // Each start removes what was left before it; the last kill may leave two folders behind.
  if (work.length > WORKERS) leftovers.push(`${work.length} work folders`);
  return leftovers;
}

function report(verdicts: Verdict[], leftovers: string[], kills: number, seconds: number): void {
  console.table(
    verdicts.map(({ wrong, ...verdict }) => ({
      ...verdict,
      verdict: wrong.length === 0 ? 'as undisturbed' : wrong.join('; '),
    })),
  );
  const good = verdicts.filter(verdict => verdict.wrong.length === 0).length;
  const attempts = verdicts.reduce((sum, verdict) => sum + verdict.attempts, 0);
  console.log(
    `${good} of ${verdicts.length} jobs as undisturbed; ${kills} kills, ${attempts} attempts, ${Math.round(seconds)} s`,
  );
  for (const leftover of leftovers) console.log(`left over: ${leftover}`);
}
