// Jobs whose answers are graded: by the worker, while the trainer waits. Graders of all kinds that need no other server, a
// worker that is killed, and what users may do to a job that waits for its grades.
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Grader } from '../../src/evaluation/graders/grader.ts';
import type { RequestedHyperparameters } from '../../src/training/protocol.ts';
import { useDatabase } from '../support/postgres.ts';
import { isAlive, startWorkerProcess, trainersOf } from './processes.ts';
import {
  type JobOptions,
  openSetting,
  readJob,
  readLosses,
  readMessages,
  type Setting,
  waitFor,
  waitForStatus,
} from './setting.ts';

/** A machine that runs all tests at once is slow. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const database = useDatabase();
let setting: Setting;
let undo: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
});
afterEach(async () => {
  for (const step of undo.reverse()) await step();
  undo = [];
});
afterAll(() => setting.close());

async function start(): Promise<void> {
  const worker = await setting.startWorker();
  undo.push(() => worker.close());
}

/** `wanted`: what the answers are to be like. */
const lines = (count: number, first = 0) =>
  Array.from({ length: count }, (_, i) => ({
    messages: [{ role: 'user', content: `Say it ${'abcdefgh'.slice(0, (first + i) % 7)}` }],
    wanted: 'aaaaaaaa',
    label: first + i,
  }));

const LIKE: Grader = {
  type: 'text_similarity',
  name: 'like',
  input: '{{sample.output_text}}',
  reference: '{{item.wanted}}',
  evaluation_metric: 'fuzzy_match',
};
const SHORT = { n_epochs: 2, batch_size: 4, rank: 4, learning_rate: 0.02, max_completion_length: 8 };

async function jobWith(grader: Grader, more: RequestedHyperparameters = {}): Promise<JobOptions> {
  return {
    trainingFile: await setting.putFile(lines(16)),
    validationFile: await setting.putFile(lines(4, 100)),
    method: { type: 'reinforcement', reinforcement: { grader, hyperparameters: { ...SHORT, ...more } } },
  };
}

const resultsOf = async (job: Record<string, unknown>, index = 0): Promise<string> => {
  const id = (job.result_files as string[])[index];
  const { rows } = await setting.pool.query('select blob_key from files where id = $1', [id]);
  const stream = await setting.blobs.get(rows[0].blob_key);
  return Buffer.concat(await stream.toArray()).toString();
};

test('a job earns more and more, and its rewards are in its events, metrics and results', async () => {
  await start();
  const id = await setting.createJob(await jobWith(LIKE, { n_epochs: 10 }));
  const job = await waitForStatus(setting.pool, id, 'succeeded');
  expect(job.hyperparameters).toMatchObject({ compute_multiplier: 1, eval_interval: 5, eval_samples: 2 });
  expect(job.fine_tuned_model).toMatch(/^ft:llama-tiny:/);
  const { rows } = await setting.pool.query(
    'select metrics from job_metrics where job_id = $1 order by step',
    [id],
  );
  const rewards = rows.map(({ metrics }) => metrics.train_reward_mean as number);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  expect(rewards).toHaveLength(40);
  expect(mean(rewards.slice(-5))).toBeGreaterThan(1.5 * mean(rewards.slice(0, 5)));
  const messages = await readMessages(setting.pool, id);
  expect(messages.find(message => message.startsWith('Step 20/40:'))).toMatch(
    /training loss=-?\d+\.\d\d, training reward=\d\.\d\d, validation reward=\d\.\d\d, full validation reward=\d\.\d\d$/,
  );
  const [header, first] = (await resultsOf(job)).split('\n');
  expect(header).toBe(
    'step,train_loss,train_reward_mean,train_reward_std,train_kl,valid_reward_mean,full_valid_reward_mean',
  );
  expect(first).toMatch(/^1,[-\d.e]+,[\d.]+,[\d.]+,[\d.]+,,$/);
  const { base, fine_tuned: tuned, ...evaluation } = JSON.parse(await resultsOf(job, 1));
  expect(evaluation).toMatchObject({ validation_examples: 4, samples: 2 });
  expect(tuned.reward_mean).toBeGreaterThan(base.reward_mean);
  expect(messages).toContain('Evaluation of the base model and the fine-tuned model completed');
});

test('a worker that is killed, and pauses: the numbers are those of an undisturbed run', async () => {
  const worker = await startWorkerProcess(environment());
  undo.push(() => worker.end('SIGKILL'));
  const options = await jobWith(LIKE, { n_epochs: 6 });
  const undisturbed = await setting.createJob(options);
  await waitForStatus(setting.pool, undisturbed, 'succeeded');
  const expected = await readLosses(setting.pool, undisturbed);
  expect(expected).toHaveLength(24);

  const id = await setting.createJob(options);
  await waitFor('step 6', async () => (await readLosses(setting.pool, id)).length >= 6);
  await worker.end('SIGKILL');
  await start();
  await waitFor('step 12', async () => (await readLosses(setting.pool, id)).length >= 12);
  await waitFor('a runner', async () => (await readJob(setting.pool, id)).status !== 'queued');
  expect(await setting.change(id, 'pause')).not.toBeNull();
  await waitFor('the lease to end', async () => !(await readJob(setting.pool, id)).lease_until);
  await setting.change(id, 'resume');
  const job = await waitForStatus(setting.pool, id, 'succeeded');
  expect(job.attempt).toBeGreaterThanOrEqual(3);
  expect(await readLosses(setting.pool, id)).toEqual(expected);
});

function environment(): Record<string, string> {
  const { config } = setting;
  return {
    DATABASE_URL: config.databaseUrl!,
    ANNEAL_DATA_DIR: config.dataDirectory,
    ANNEAL_LEASE_SECONDS: '2',
    ANNEAL_CHECKPOINT_SECONDS: '1',
    ANNEAL_THREADS: '1',
  };
}

test('a job that waits for a slow grader is cancelled at once', async () => {
  await start();
  const source = 'import time\ndef grade(sample, item):\n    time.sleep(20)\n    return 1.0\n';
  const id = await setting.createJob(await jobWith({ type: 'python', name: 'slow', source }));
  const [trainer] = await waitFor('a trainer', async () => {
    const found = await trainersOf(process.pid);
    return found.length > 0 && (await readJob(setting.pool, id)).hyperparameters ? found : null;
  });
  await new Promise(resolve => setTimeout(resolve, 2000));
  const asked = Date.now();
  await setting.change(id, 'cancel');
  await waitFor('the trainer to be gone', async () => !(await isAlive(trainer!)));
  expect(Date.now() - asked).toBeLessThan(10_000);
  expect(await readJob(setting.pool, id)).toMatchObject({ status: 'cancelled' });
});

test('Python and formulas grade, too', async () => {
  await start();
  const grader: Grader = {
    type: 'multi',
    name: 'both',
    graders: {
      python: {
        type: 'python',
        name: 'python',
        source:
          'def grade(sample, item):\n    return 0.5 if isinstance(sample["output_text"], str) and item["wanted"] else 0.0\n',
      },
      like: LIKE as Exclude<Grader, { type: 'multi' }>,
    },
    calculate_output: 'python * 2 + like * 0',
  };
  const id = await setting.createJob(await jobWith(grader, { n_epochs: 1 }));
  await waitForStatus(setting.pool, id, 'succeeded');
  const { rows } = await setting.pool.query('select metrics from job_metrics where job_id = $1', [id]);
  for (const { metrics } of rows)
    expect(metrics).toMatchObject({ train_reward_mean: 1, train_reward_std: 0 });
});

test('a grader that finds nothing to grade fails the job, and says why', async () => {
  await start();
  const id = await setting.createJob(await jobWith({ ...LIKE, reference: '{{item.nowhere}}' } as Grader));
  const job = await waitForStatus(setting.pool, id, 'failed');
  expect(job.error).toEqual({
    code: 'grader_failed',
    param: 'method.reinforcement.grader',
    message:
      'The grader failed on every answer of 3 steps in a row. invalid_variable_error: {{item.nowhere}} is not there',
  });
  const messages = await readMessages(setting.pool, id);
  expect(messages).toContain(
    '32 of 32 answers at step 1 could not be graded and count as 0. invalid_variable_error: {{item.nowhere}} is not there',
  );
});

test('lines that are no prompts fail the job before it runs', async () => {
  await start();
  const answered = { messages: [...lines(1)[0]!.messages, { role: 'assistant', content: 'aaa' }] };
  const options = await jobWith(LIKE);
  const id = await setting.createJob({
    ...options,
    trainingFile: await setting.putFile([...lines(12), answered]),
  });
  const job = await waitForStatus(setting.pool, id, 'failed');
  expect(job.error).toMatchObject({
    code: 'invalid_training_file',
    message: expect.stringContaining("Example 13, message 2 is the last and has the role 'assistant'"),
  });
});

test('a model judges, as usage of the project and the key of the job', async () => {
  await start();
  const judge: Grader = {
    type: 'score_model',
    name: 'judge',
    model: 'llama-tiny',
    range: [0, 4],
    input: [{ role: 'user', content: 'Rate {{sample.output_text}}' }],
    sampling_params: { max_completions_tokens: 40 },
  };
  const id = await setting.createJob(await jobWith(judge, { n_epochs: 1, eval_samples: 1 }));
  await waitForStatus(setting.pool, id, 'succeeded');
  const usage = await waitFor('usage', async () => {
    const { rows } = await setting.pool.query('select api_key_id, model, requests, output_tokens from usage');
    return rows[0];
  });
  expect(usage).toMatchObject({ api_key_id: 'key_of_the_job', model: 'llama-tiny' });
  expect(usage.output_tokens).toBeGreaterThan(usage.requests);
});
