// Jobs followed on a Weights & Biases server that checks what arrives as the real one does: keys, runs, lines at offsets.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { inTransaction } from '../../src/store/database.ts';
import { insertWandbRuns, type WandbIntegration } from '../../src/store/wandb-runs.ts';
import { useDatabase } from '../support/postgres.ts';
import { startWorkerProcess } from './processes.ts';
import {
  openSetting,
  readLosses,
  readMessages,
  SCRIPTED_TRAINER,
  type Setting,
  scripted,
  waitFor,
  waitForStatus,
} from './setting.ts';

const KEY = 'w'.repeat(40);
const database = useDatabase();

interface Run {
  displayName: string;
  tags: string[];
  config: Record<string, { value: unknown }>;
  history: string[];
  summary: string | null;
  exitcode: number | null;
}

interface WandbStandIn {
  runs: Map<string, Run>;
  /** Answers with this status while it is set. */
  failing: number | null;
  url: string;
  server: Server;
}

async function openWandb(): Promise<WandbStandIn> {
  const standIn: WandbStandIn = { runs: new Map(), failing: null, url: '', server: createServer() };
  standIn.server.on('request', async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const answer = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (standIn.failing) return answer(standIn.failing, { error: 'down for a while' });
    if (request.headers.authorization !== `Basic ${btoa(`api:${KEY}`)}`) return answer(401, {});
    const body = JSON.parse(Buffer.concat(chunks).toString());
    if (request.url === '/graphql') return answer(200, upsert(standIn, body));
    const [, files, entity, project, id, last] = request.url!.split('/').map(decodeURIComponent);
    const run = standIn.runs.get(`${entity}/${project}/${id}`);
    if (files !== 'files' || last !== 'file_stream' || !run) return answer(404, {});
    append(run, body);
    answer(200, {});
  });
  await new Promise<void>(done => standIn.server.listen(0, '127.0.0.1', done));
  standIn.url = `http://127.0.0.1:${(standIn.server.address() as AddressInfo).port}`;
  return standIn;
}

function upsert(standIn: WandbStandIn, body: { query: string; variables: Record<string, unknown> }): object {
  if (!/mutation UpsertBucket\(/.test(body.query)) return { errors: [{ message: 'unknown operation' }] };
  const { name, project, entity, displayName, config, tags } = body.variables as Record<string, string>;
  if (project === 'forbidden') return { data: null, errors: [{ message: 'permission denied' }] };
  const owner = entity ?? 'key-owner';
  const path = `${owner}/${project}/${name}`;
  const before = standIn.runs.get(path);
  const run = before ?? { history: [], summary: null, exitcode: null };
  const said = { displayName: displayName!, tags: tags as never, config: JSON.parse(config!) };
  standIn.runs.set(path, Object.assign(run, said) as Run);
  const bucket = { id: 'x', name, displayName, project: { name: project, entity: { name: owner } } };
  return { data: { upsertBucket: { bucket, inserted: !before } } };
}

function append(
  run: Run,
  body: {
    files: Record<string, { offset: number; content: string[] }>;
    exitcode?: number;
    complete?: boolean;
  },
): void {
  const history = body.files['wandb-history.jsonl'];
  if (history) {
    if (history.offset > run.history.length) throw new Error('a hole in the history');
    run.history.splice(history.offset, history.content.length, ...history.content);
  }
  run.summary = body.files['wandb-summary.json']?.content.at(-1) ?? run.summary;
  if (body.complete) run.exitcode = body.exitcode!;
}

let wandb: WandbStandIn;
let setting: Setting;

beforeAll(async () => {
  wandb = await openWandb();
  const config = { WANDB_BASE_URL: `${wandb.url}/`, WANDB_API_KEY: KEY };
  setting = await openSetting({ databaseUrl: database.url, config });
});
afterAll(async () => {
  await setting.close();
  wandb.server.closeAllConnections();
  await new Promise(done => wandb.server.close(done));
});
beforeEach(async () => {
  wandb.runs.clear();
  wandb.failing = null;
  await database.pool.query('delete from wandb_runs');
});

const integration = (extra: Partial<WandbIntegration> = {}): WandbIntegration => ({
  project: 'support',
  name: null,
  entity: null,
  tags: [],
  ...extra,
});

async function createJob(lines: unknown[], integrations: WandbIntegration[]): Promise<string> {
  const id = await setting.createJob({ trainingFile: await setting.putFile(lines) });
  await inTransaction(database.pool, async tx => {
    await tx.query('update jobs set integrations = $2 where id = $1', [id, JSON.stringify(integrations)]);
    await insertWandbRuns(tx, id, integrations.length);
  });
  return id;
}

const runAt = (path: string) =>
  waitFor(
    `the end of ${path}`,
    async () => {
      const run = wandb.runs.get(path);
      return run && run.exitcode !== null ? run : null;
    },
    40_000,
  );

async function withWorker<T>(work: () => Promise<T>): Promise<T> {
  const worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER });
  try {
    return await work();
  } finally {
    await worker.close();
  }
}

/** Instead of waiting for the pause before it is looked at again. */
const becomeDue = () =>
  database.pool.query('update wandb_runs set next_attempt_at = now() where next_attempt_at is not null');

test('each step, the hyperparameters and the end arrive', { timeout: 60_000 }, async () => {
  const id = await createJob(scripted({}), [
    integration({ name: 'nightly', tags: ['mine'] }),
    integration({ project: 'other', entity: 'team' }),
  ]);
  await withWorker(async () => {
    await waitForStatus(database.pool, id, 'succeeded');
    await becomeDue();
    await Promise.all([runAt(`key-owner/support/${id}`), runAt(`team/other/${id}-2`)]);
  });
  const run = wandb.runs.get(`key-owner/support/${id}`)!;
  expect(run).toMatchObject({
    displayName: 'nightly',
    tags: ['mine', 'openai/finetune', 'openai/llama-tiny', `openai/${id}`],
    exitcode: 0,
    config: { job: { value: id }, model: { value: 'llama-tiny' }, status: { value: 'succeeded' } },
  });
  expect(run.config.fine_tuned_model!.value).toMatch(/^ft:llama-tiny/);
  const losses = (await readLosses(database.pool, id)) as { train_loss: number }[];
  const history = run.history.map(line => JSON.parse(line));
  expect(history.map(({ _step }) => _step)).toEqual(losses.map((_, index) => index + 1));
  expect(history.map(({ train_loss }) => train_loss)).toEqual(losses.map(({ train_loss }) => train_loss));
  expect(JSON.parse(run.summary!)).toEqual(history.at(-1));
  expect(wandb.runs.get(`team/other/${id}-2`)!.displayName).toBe(id);
});

test('a job that fails ends its run as failed', { timeout: 60_000 }, async () => {
  const id = await createJob(['{'], [integration()]);
  const run = await withWorker(async () => {
    await waitForStatus(database.pool, id, 'failed');
    await becomeDue();
    return runAt(`key-owner/support/${id}`);
  });
  expect(run).toMatchObject({ exitcode: 1, history: [], config: { status: { value: 'failed' } } });
});

test('a server that is away costs the job nothing, and hears everything later', {
  timeout: 60_000,
}, async () => {
  wandb.failing = 503;
  const id = await createJob(scripted({}), [integration()]);
  await withWorker(async () => {
    await waitForStatus(database.pool, id, 'succeeded');
    await becomeDue();
    await waitFor('the warning', async () =>
      (await readMessages(database.pool, id)).some(one => one.includes('wandb') && one.includes('503')),
    );
    wandb.failing = null;
    await becomeDue();
    await runAt(`key-owner/support/${id}`);
  });
  expect(wandb.runs.get(`key-owner/support/${id}`)!.history).toHaveLength(6);
  const warnings = (await readMessages(database.pool, id)).filter(one => one.includes('wandb'));
  expect(warnings).toHaveLength(1);
});

test('what the server refuses is said, and the key goes nowhere else', { timeout: 60_000 }, async () => {
  const id = await createJob(['{'], [integration({ project: 'forbidden' })]);
  await withWorker(async () => {
    await waitForStatus(database.pool, id, 'failed');
    await becomeDue();
    const message = await waitFor('the warning', async () =>
      (await readMessages(database.pool, id)).find(one => one.includes('wandb')),
    );
    expect(message).toContain('permission denied');
    expect(message).not.toContain(KEY);
  });
});

test('a worker that is killed leaves it to the next, and no line is lost or twice', {
  timeout: 90_000,
}, async () => {
  const id = await createJob(scripted({ steps: 60, stepMs: 100, stepsPerEpoch: 60, resumeEvery: 5 }), [
    integration(),
  ]);
  const environment = {
    DATABASE_URL: database.url,
    ANNEAL_DATA_DIR: setting.config.dataDirectory,
    ANNEAL_LEASE_SECONDS: '2',
    WANDB_BASE_URL: wandb.url,
    WANDB_API_KEY: KEY,
    TEST_TRAINER: SCRIPTED_TRAINER,
  };
  const path = `key-owner/support/${id}`;
  const worker = await startWorkerProcess(environment);
  await waitFor('some lines', async () => {
    await becomeDue();
    return (wandb.runs.get(path)?.history.length ?? 0) > 0;
  });
  await worker.end('SIGKILL');
  const before = wandb.runs.get(path)!.history.length;
  await withWorker(async () => {
    await waitForStatus(database.pool, id, 'succeeded');
    await becomeDue();
    await runAt(path);
  });
  const steps = wandb.runs.get(path)!.history.map(line => JSON.parse(line)._step);
  expect(before).toBeLessThan(60);
  expect(steps).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
});
