// A training job from its creation to its end, undisturbed: with the real trainer on the tiny base model, and with a
// scripted one where only the worker's own part is asked for.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openS3 } from '../../src/blobs/s3.ts';
import type { Worker } from '../../src/queue/worker.ts';
import { createDatabase, useDatabase } from '../support/postgres.ts';
import { useS3 } from '../support/s3.ts';
import type { Script } from './scripted-trainer.ts';
import {
  chatLines,
  openSetting,
  readJob,
  readMessages,
  SCRIPTED_TRAINER,
  type Setting,
  scripted,
  waitFor,
  waitForStatus,
} from './setting.ts';

/** A machine that runs all tests at once is slow. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const database = useDatabase();
let setting: Setting;

beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
});
afterAll(() => setting.close());

async function select(sql: string, ...values: unknown[]): Promise<Record<string, unknown>[]> {
  return (await setting.pool.query(sql, values)).rows;
}

async function content(fileId: string): Promise<string> {
  const [file] = await select('select blob_key, sha256, bytes from files where id = $1', fileId);
  const stream = await setting.blobs.get(file!.blob_key as string);
  const bytes = Buffer.concat(await stream.toArray());
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(file!.sha256);
  expect(bytes.length).toBe(file!.bytes);
  return bytes.toString();
}

async function keysOf(jobId: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of setting.blobs.list(`jobs/${jobId}/`)) found.push(key);
  return found.sort();
}

describe('with the real trainer', () => {
  let worker: Worker;
  beforeAll(async () => {
    worker = await setting.startWorker();
  });
  afterAll(() => worker.close());

  test('an attempt after another takes the numbers that the first resolved', async () => {
    const trainingFile = await setting.putFile(chatLines(20));
    const first = await setting.createJob({ trainingFile, hyperparameters: { n_epochs: 1 } });
    await waitForStatus(setting.pool, first, 'succeeded');
    const [resolved] = await select('select hyperparameters from jobs where id = $1', first);
    const earlier = { ...(resolved!.hyperparameters as object), batch_size: 7, learning_rate: 0.00123 };
    const again = await setting.createJob({ trainingFile, resolved: earlier });
    await waitForStatus(setting.pool, again, 'succeeded');
    const [job] = await select('select hyperparameters, total_steps from jobs where id = $1', again);
    expect(job).toMatchObject({
      hyperparameters: { n_epochs: 1, batch_size: 7, learning_rate: 0.00123 },
      total_steps: 3,
    });
  });

  test('a job goes through its states to a model, its results and its events', async () => {
    const id = await setting.createJob({
      trainingFile: await setting.putFile(chatLines(20)),
      validationFile: await setting.putFile(chatLines(5, 100)),
      suffix: 'farm',
      hyperparameters: { n_epochs: 5, batch_size: 5 },
    });
    const job = await waitForStatus(setting.pool, id, 'succeeded');
    const model = job.fine_tuned_model as string;
    expect(model).toMatch(/^ft:llama-tiny:personal:farm:[A-Za-z0-9]{8}$/);
    expect(job).toMatchObject({ total_steps: 20, error: null, estimated_finish: null });
    expect(job.hyperparameters).toMatchObject({ n_epochs: 5, batch_size: 5, rank: 16 });
    expect(job.trained_tokens).toBeGreaterThan(0);
    expect(job.started_at).toBeInstanceOf(Date);
    expect(job.finished_at).toBeInstanceOf(Date);
    expect(job.manifest).toMatchObject({ seed: 7 });

    const messages = await readMessages(setting.pool, id);
    expect(messages.slice(0, 4)).toEqual([
      `Created fine-tuning job: ${id}`,
      `Validating training file: ${job.training_file} and validation file: ${job.validation_file}`,
      'Files validated, moving job to queued state',
      'Fine-tuning job started',
    ]);
    expect(messages.slice(-2)).toEqual([
      `New fine-tuned model created: ${model}`,
      'The job has successfully completed',
    ]);
    const steps = messages.filter(message => message.startsWith('Step '));
    expect(steps).toHaveLength(20);
    expect(steps[0]).toMatch(/^Step 1\/20: training loss=\d+\.\d\d, validation loss=\d+\.\d\d$/);
    expect(steps[3]).toMatch(/^Step 4\/20: .*, full validation loss=\d+\.\d\d$/);
    for (const step of [4, 8, 12, 16, 20]) expect(messages).toContain(`Checkpoint created at step ${step}`);
    expect(new Set(messages).size).toBe(messages.length);

    const metrics = await select('select step, metrics from job_metrics where job_id = $1 order by step', id);
    expect(metrics.map(row => row.step)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(Object.keys(metrics[3]!.metrics as object).sort()).toEqual([
      'epoch',
      'full_valid_loss',
      'full_valid_mean_token_accuracy',
      'gradient_norm',
      'learning_rate',
      'seconds',
      'step',
      'train_loss',
      'train_mean_token_accuracy',
      'valid_loss',
      'valid_mean_token_accuracy',
    ]);
  });

  test('the model, its checkpoints and the results are there, and nothing else', async () => {
    const [job] = await select(`select * from jobs where suffix = 'farm'`);
    const id = job!.id as string;
    const model = job!.fine_tuned_model as string;
    await waitFor('what is not needed to go', async () => !(await readJob(setting.pool, id)).lease_until);
    const names = await select(
      'select id from models where job_id = $1 and deleted_at is null order by step, id',
      id,
    );
    expect(names.map(row => row.id).sort()).toEqual(
      [model, ...[12, 16, 20].map(step => `${model}:ckpt-step-${step}`)].sort(),
    );
    const checkpoints = await select(
      'select step, kind from job_checkpoints where job_id = $1 order by step',
      id,
    );
    expect(checkpoints).toEqual([12, 16, 20].map(step => ({ step, kind: 'model' })));

    const [csv, evaluation, manifest] = job!.result_files as [string, string, string];
    const lines = (await content(csv)).trim().split('\n');
    expect(lines[0]).toBe('step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy');
    expect(lines).toHaveLength(21);
    expect(JSON.parse(await content(evaluation))).toBeTypeOf('object');
    expect(JSON.parse(await content(manifest))).toEqual(job!.manifest);
    const files = await select(
      'select purpose, filename, status from files where id = any($1)',
      job!.result_files,
    );
    expect(files.every(file => file.purpose === 'fine-tune-results' && file.status === 'processed')).toBe(
      true,
    );

    const rows = await select(
      `select file->>'key' as key from models, jsonb_array_elements(files) as file
       where job_id = $1 and deleted_at is null`,
      id,
    );
    const used = new Set(rows.map(row => row.key as string));
    const results = (await keysOf(id)).filter(key => key.includes('/results/'));
    expect(results).toHaveLength(3);
    expect(await keysOf(id)).toEqual([...used, ...results].sort());
  });

  test('the same seed gives the same losses, another seed others', async () => {
    const trainingFile = await setting.putFile(chatLines(12));
    const hyperparameters = { n_epochs: 2, batch_size: 3 };
    const jobs = [];
    for (const seed of [1, 1, 2]) jobs.push(await setting.createJob({ trainingFile, seed, hyperparameters }));
    for (const job of jobs) await waitForStatus(setting.pool, job, 'succeeded');
    const losses = await Promise.all(jobs.map(job => readLossesOf(job)));
    expect(losses[1]).toEqual(losses[0]);
    expect(losses[2]).not.toEqual(losses[0]);
  });

  test('a fine-tuned model is fine-tuned on: its name and base are those of the root', async () => {
    const [first] = await select(`select fine_tuned_model from jobs where suffix = 'farm'`);
    const id = await setting.createJob({
      model: first!.fine_tuned_model as string,
      trainingFile: await setting.putFile(chatLines(12)),
      hyperparameters: { n_epochs: 1 },
    });
    const job = await waitForStatus(setting.pool, id, 'succeeded');
    expect(job.fine_tuned_model).toMatch(/^ft:llama-tiny:personal::[A-Za-z0-9]{8}$/);
    const [model] = await select('select kind, base_model from models where id = $1', job.fine_tuned_model);
    expect(model).toEqual({ kind: 'adapter', base_model: 'llama-tiny' });
    const [before] = await select(
      `select metrics->>'train_loss' as loss from job_metrics join jobs on jobs.id = job_id where suffix = 'farm' and step = 1`,
    );
    const [after] = await readLossesOf(id);
    expect(after!.train_loss).toBeLessThan(Number(before!.loss));
  });

  test('a full model is a model of its own', async () => {
    const id = await setting.createJob({
      trainingFile: await setting.putFile(chatLines(12)),
      hyperparameters: { n_epochs: 1, adapter: 'full' },
    });
    const job = await waitForStatus(setting.pool, id, 'succeeded');
    const [model] = await select(
      'select kind, base_model, files from models where id = $1',
      job.fine_tuned_model,
    );
    expect(model).toMatchObject({ kind: 'full', base_model: 'llama-tiny' });
    const paths = (model!.files as { path: string }[]).map(file => file.path);
    expect(paths).toContain('config.json');
    expect(paths).toContain('tokenizer.json');
  });

  async function readLossesOf(id: string): Promise<Record<string, number>[]> {
    const rows = await select('select metrics from job_metrics where job_id = $1 order by step', id);
    return rows.map(({ metrics }) => ({ ...(metrics as Record<string, number>), seconds: 0 }));
  }
});

describe('with a scripted trainer', () => {
  let worker: Worker;
  beforeAll(async () => {
    worker = await setting.startWorker({ trainerModule: SCRIPTED_TRAINER });
  });
  afterAll(() => worker.close());

  async function run(script: Partial<Script>): Promise<string> {
    return setting.createJob({ trainingFile: await setting.putFile(scripted(script)) });
  }

  test('the best checkpoint by validation is the model, however long ago it was', async () => {
    const id = await run({ steps: 12, stepsPerEpoch: 2, validation: [3, 1, 2, 2, 2, 2] });
    const job = await waitForStatus(setting.pool, id, 'succeeded');
    const [model] = await select('select step, files from models where id = $1', job.fine_tuned_model);
    expect(model!.step).toBe(4);
    for (const { key } of model!.files as { key: string }[])
      expect(await setting.blobs.size(key)).not.toBeNull();
    const checkpoints = await select('select step from job_checkpoints where job_id = $1 order by step', id);
    expect(checkpoints.map(row => row.step)).toEqual([8, 10, 12]);
    const left = ['model-step-10', 'model-step-12', 'model-step-4', 'model-step-8', 'results'];
    await waitFor('other objects to go', async () => {
      const folders = new Set((await keysOf(id)).map(key => key.split('/')[3]));
      return [...folders].sort().join() === left.join();
    });
  });

  test('only the last checkpoint for resuming is kept while a job runs', async () => {
    const id = await run({ steps: 60, stepMs: 20, resumeEvery: 5, stepsPerEpoch: 60 });
    await waitFor('some checkpoints', async () => {
      const rows = await select('select step from job_checkpoints where job_id = $1', id);
      expect(rows.length).toBeLessThanOrEqual(1);
      return Number(rows[0]?.step) >= 20;
    });
    await waitForStatus(setting.pool, id, 'succeeded');
    await waitFor('its objects to go', async () => !(await keysOf(id)).some(key => key.includes('resume')));
  });

  test('when it will be done and what was trained so far stand on the job', async () => {
    const id = await run({ steps: 40, stepMs: 50, stepsPerEpoch: 40 });
    const job = await waitFor('an estimate', async () => {
      const found = await readJob(setting.pool, id);
      return found.estimated_finish && found.trained_tokens ? found : null;
    });
    expect(job.status).toBe('running');
    expect((job.estimated_finish as Date).getTime()).toBeGreaterThan(Date.now());
    expect(await readMessages(setting.pool, id)).toEqual(
      expect.arrayContaining([
        '2 of 11 examples had more than 64 tokens and were cut from the end; 1 of them were dropped, because nothing to train on remained',
        '3 of 10 pairs of the training file have two identical answers, which teach nothing: lines 2, 5, 7',
      ]),
    );
    await waitForStatus(setting.pool, id, 'succeeded');
  });

  test('what the trainer refuses fails the job with its words', async () => {
    const fails = { code: 'insufficient_memory', param: 'max_length', message: 'Lower max_length.' };
    const id = await run({ fails });
    const job = await waitForStatus(setting.pool, id, 'failed');
    expect(job.error).toEqual(fails);
    expect((await readMessages(setting.pool, id)).at(-1)).toBe('Lower max_length.');
    expect(await keysOf(id)).toEqual([]);
  });

  test('a worker trains one job at a time', async () => {
    const jobs = await Promise.all([1, 2, 3].map(() => run({ steps: 10, stepMs: 20 })));
    let most = 0;
    await waitFor('all to end', async () => {
      const [row] = await select(
        `select count(*) filter (where status = 'running') as running,
           count(*) filter (where status = 'succeeded') as ended from jobs where id = any($1)`,
        jobs,
      );
      most = Math.max(most, Number(row!.running));
      return Number(row!.ended) === 3;
    });
    expect(most).toBe(1);
  });
});

describe('with S3', () => {
  const server = useS3();

  test('a job runs on a machine that has none of the files', async () => {
    const own = await createDatabase();
    const other = await openSetting({ databaseUrl: own.url, blobs: openS3(server.settings) });
    const worker = await other.startWorker();
    const id = await other.createJob({
      trainingFile: await other.putFile(chatLines(12)),
      validationFile: await other.putFile(chatLines(3, 50)),
      hyperparameters: { n_epochs: 2, batch_size: 4 },
    });
    const job = await waitForStatus(other.pool, id, 'succeeded');
    const { rows } = await other.pool.query('select files from models where id = $1', [job.fine_tuned_model]);
    const [model] = rows;
    for (const { key, bytes } of model!.files as { key: string; bytes: number }[]) {
      expect(await other.blobs.size(key)).toBe(bytes);
    }
    await worker.close();
    await other.close();
    await own.drop();
  });
});
