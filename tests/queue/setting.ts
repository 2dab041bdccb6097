// What the worker's tests have in common: a store with the tiny base model, files, jobs, workers, and what became of a job.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import pino from 'pino';
import type { Blobs } from '../../src/blobs/blobs.ts';
import { openFolder } from '../../src/blobs/folder.ts';
import { type Config, readConfig } from '../../src/config.ts';
import type { Answerer } from '../../src/queue/answerer.ts';
import { openQueue, type Queue } from '../../src/queue/queue.ts';
import { startWorker, type Worker, type WorkerOptions } from '../../src/queue/worker.ts';
import { openPool } from '../../src/store/database.ts';
import { appendEvents } from '../../src/store/events.ts';
import { fileBlobKey, insertFile, newFileId } from '../../src/store/files.ts';
import {
  changeJobStatus,
  insertJob,
  type Job,
  type JobMethod,
  type transitions,
} from '../../src/store/jobs.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import type { RequestedHyperparameters } from '../../src/training/protocol.ts';
import { openAnswering } from './answering.ts';
import type { Script } from './scripted-trainer.ts';

const BASE_MODEL = join(import.meta.dirname, '../golden/llama-tiny');
export const SCRIPTED_TRAINER = join(import.meta.dirname, 'scripted-trainer.ts');

export interface Setting {
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
  readonly projectId: string;
  readonly config: Config;
  /** In this process. */
  startWorker(
    options?: WorkerOptions & { config?: Partial<Config>; blobs?: Blobs; answer?: Answerer },
  ): Promise<Worker>;
  putFile(lines: readonly unknown[]): Promise<string>;
  createJob(options: JobOptions): Promise<string>;
  /** As the API does it. */
  change(jobId: string, transition: keyof typeof transitions): Promise<Job | null>;
  close(): Promise<void>;
}

export interface JobOptions {
  /** Supervised where absent. */
  method?: JobMethod;
  trainingFile: string;
  validationFile?: string;
  model?: string;
  suffix?: string;
  seed?: number;
  hyperparameters?: RequestedHyperparameters;
  /** What an earlier attempt made of them. */
  resolved?: object;
}

export interface SettingOptions {
  databaseUrl: string;
  blobs?: Blobs;
  config?: Record<string, string>;
}

export async function openSetting({
  databaseUrl,
  blobs: given,
  config: extra,
}: SettingOptions): Promise<Setting> {
  const directory = await mkdtemp(join(tmpdir(), 'anneal-test-worker-'));
  const config = readConfig({
    DATABASE_URL: databaseUrl,
    ANNEAL_DATA_DIR: directory,
    ANNEAL_LEASE_SECONDS: '3',
    ANNEAL_CHECKPOINT_SECONDS: '1',
    ANNEAL_THREADS: '1',
    ...extra,
  });
  const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' });
  const pool = openPool(databaseUrl, log);
  const blobs = given ?? (await openFolder(join(directory, 'objects')));
  const queue = await openQueue(databaseUrl, { supervise: true });
  const { id: projectId } = await ensureDefaultProject(pool);
  await registerBaseModel(pool, blobs);
  const answering = openAnswering({ config, log, pool, blobs });
  return {
    pool,
    blobs,
    queue,
    projectId,
    config,
    startWorker: ({ config: changed, blobs: other, answer, ...options } = {}) =>
      startWorker(
        { config: { ...config, ...changed }, log, pool, blobs: other ?? blobs, queue, ...answering, answer },
        options,
      ),
    async putFile(lines) {
      const id = newFileId();
      const text = lines.map(line => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join('');
      const stored = await blobs.put(fileBlobKey(id), Buffer.from(text));
      const { sizeBytes: bytes, sha256, key: blobKey } = stored;
      await insertFile(pool, {
        id,
        projectId,
        purpose: 'fine-tune',
        filename: 'x.jsonl',
        bytes,
        sha256,
        blobKey,
      });
      return id;
    },
    createJob: options => createJob(pool, queue, projectId, options),
    change: (jobId, transition) => change(pool, queue, projectId, jobId, transition),
    async close() {
      await answering.close();
      await queue.close();
      await pool.end();
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function registerBaseModel(pool: pg.Pool, blobs: Blobs): Promise<void> {
  const files = [];
  for (const path of await readdir(BASE_MODEL)) {
    const content = await readFile(join(BASE_MODEL, path));
    const key = `models/llama-tiny/${path}`;
    await blobs.put(key, content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    files.push({ path, key, bytes: content.length, sha256 });
  }
  await upsertBaseModel(pool, { id: 'llama-tiny', architecture: 'llama', ownedBy: 'system', files });
}

async function createJob(
  pool: pg.Pool,
  queue: Queue,
  projectId: string,
  options: JobOptions,
): Promise<string> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const job = await insertJob(client, {
      projectId,
      apiKeyId: 'key_of_the_job',
      model: options.model ?? 'llama-tiny',
      trainingFile: options.trainingFile,
      validationFile: options.validationFile ?? null,
      suffix: options.suffix ?? null,
      seed: options.seed ?? 7,
      metadata: null,
      method: options.method ?? {
        type: 'supervised',
        supervised: { hyperparameters: options.hyperparameters ?? {} },
      },
    });
    if (options.resolved)
      await client.query('update jobs set hyperparameters = $2 where id = $1', [job.id, options.resolved]);
    await appendEvents(client, job.id, [{ message: `Created fine-tuning job: ${job.id}`, once: 'created' }]);
    await queue.enqueueValidation(job.id, { client });
    await client.query('commit');
    return job.id;
  } finally {
    client.release();
  }
}

async function change(
  pool: pg.Pool,
  queue: Queue,
  projectId: string,
  jobId: string,
  transition: keyof typeof transitions,
): Promise<Job | null> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const job = await changeJobStatus(client, projectId, jobId, transition);
    if (job && transition === 'resume') await queue.enqueueTraining(jobId, { client });
    await client.query('commit');
    return job;
  } finally {
    client.release();
  }
}

// ---- data

const ANIMALS = ['cat', 'dog', 'hen', 'cow', 'pig', 'fox', 'owl', 'bee'];

/** Chat lines; the same for the same numbers. */
export function chatLines(count: number, offset = 0): unknown[] {
  return Array.from({ length: count }, (_, index) => {
    const animal = ANIMALS[(index + offset) % ANIMALS.length];
    return {
      messages: [
        { role: 'user', content: `Number ${index + offset} of the ${animal}s says?` },
        { role: 'assistant', content: `I am ${animal} ${(index * 7 + offset) % 13}.` },
      ],
    };
  });
}

/** A training file that tells the scripted trainer what to do. */
export function scripted(script: Partial<Script>): unknown[] {
  const whole: Script = { steps: 6, stepMs: 5, stepsPerEpoch: 3, resumeEvery: 2, ...script };
  const [first, ...rest] = chatLines(10) as { messages: { content: string }[] }[];
  first!.messages[0]!.content = JSON.stringify(whole);
  return [first, ...rest];
}

// ---- what became of a job

export async function readJob(
  pool: pg.Pool,
  id: string,
): Promise<Record<string, unknown> & { status: string }> {
  const { rows } = await pool.query('select * from jobs where id = $1', [id]);
  return rows[0];
}

/** Polls until the condition holds. */
export async function waitFor<T>(
  what: string,
  read: () => Promise<T | null | undefined | false>,
  timeoutMs = 120_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await read();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await sleep(50);
  }
}

export async function waitForStatus(pool: pg.Pool, id: string, status: string, timeoutMs = 120_000) {
  return waitFor(
    `${id} to be ${status}`,
    async () => {
      const job = await readJob(pool, id);
      if (job.status === status) return job;
      const over = ['succeeded', 'failed', 'cancelled'].includes(job.status);
      if (over) throw new Error(`the job is ${job.status}: ${JSON.stringify(job.error)}`);
      return null;
    },
    timeoutMs,
  );
}

export async function readMessages(pool: pg.Pool, id: string): Promise<string[]> {
  const { rows } = await pool.query('select message from job_events where job_id = $1 order by sequence', [
    id,
  ]);
  return rows.map(row => row.message);
}

/** Every loss and accuracy by step: what must be the same, bit for bit, however a run went. */
export async function readLosses(pool: pg.Pool, id: string): Promise<Record<string, unknown>[]> {
  const { rows } = await pool.query('select metrics from job_metrics where job_id = $1 order by step', [id]);
  return rows.map(({ metrics: { seconds, ...numbers } }) => numbers);
}
