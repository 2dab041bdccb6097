import { toFile } from 'openai';
import supertest from 'supertest';
import { beforeAll, expect, test } from 'vitest';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const STEPS = 2500;
let job: string;

interface Step {
  id: string;
  step_number: number;
  metrics: Record<string, number>;
}

interface Page {
  data: Step[];
  has_more: boolean;
  last_id: string | null;
}

beforeAll(async () => {
  job = await createJob();
  await server.database.pool.query(
    `insert into job_metrics (job_id, step, metrics)
     select $1, step, jsonb_build_object('step', step, 'epoch', 1, 'train_loss', 1.0 / step,
       'train_mean_token_accuracy', 0.5, 'learning_rate', 1e-7, 'gradient_norm', 2, 'seconds', 0.25)
       || case when step % 2 = 0 then '{"full_valid_loss": 0.75}' else '{}' end::jsonb
     from generate_series(1, $2::int) as step`,
    [job, STEPS],
  );
});

async function createJob(): Promise<string> {
  const file = await toFile(Buffer.from('{}\n'), 'a.jsonl');
  const { id } = await server.client.files.create({ file, purpose: 'fine-tune' });
  return (await server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: id })).id;
}

const list = (query: object = {}, id = job, client = server.client) =>
  client.get<Page>(`/fine_tuning/jobs/${id}/metrics`, { query: query as Record<string, string> });

const csv = (id = job) =>
  supertest(server.url)
    .get(`/v1/fine_tuning/jobs/${id}/metrics?format=csv`)
    .auth(server.key, { type: 'bearer' });

test('pages through every step, first to last and back', async () => {
  const seen: number[] = [];
  for (let after: string | undefined, more = true; more; ) {
    const page: Page = await list({ limit: 999, ...(after && { after }) });
    seen.push(...page.data.map(step => step.step_number));
    after = page.last_id!;
    more = page.has_more;
  }
  expect(seen).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
  const last = await list({ order: 'desc', limit: 2 });
  expect(last.data.map(step => step.id)).toEqual(['step-2500', 'step-2499']);
  const before = await list({ order: 'desc', limit: 2, after: 'step-2499' });
  expect(before.data.map(step => step.id)).toEqual(['step-2498', 'step-2497']);
  expect((await list()).data).toHaveLength(100);
});

test('gives each step with what was measured in it', async () => {
  const [first, second] = (await list({ limit: 2 })).data;
  const measured = {
    epoch: 1,
    train_mean_token_accuracy: 0.5,
    learning_rate: 1e-7,
    gradient_norm: 2,
    seconds: 0.25,
  };
  expect(first).toEqual({
    object: 'fine_tuning.job.metrics',
    id: 'step-1',
    fine_tuning_job_id: job,
    step_number: 1,
    metrics: { ...measured, train_loss: 1 },
  });
  expect(second!.metrics).toEqual({ ...measured, train_loss: 0.5, full_valid_loss: 0.75 });
});

test('all of it as CSV', async () => {
  const { status, headers, text } = await csv();
  expect(status).toBe(200);
  expect(headers['content-type']).toBe('text/csv; charset=utf-8');
  const lines = text.split('\n');
  expect(lines[0]).toBe(
    'step,epoch,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,full_valid_loss,full_valid_mean_token_accuracy,learning_rate,gradient_norm,seconds',
  );
  expect(lines.slice(1, 3)).toEqual(['1,1,1,0.5,,,,,1e-7,2,0.25', '2,1,0.5,0.5,,,0.75,,1e-7,2,0.25']);
  expect(lines).toHaveLength(STEPS + 2);
  expect(lines.at(-1)).toBe('');
  expect(lines.at(-2)).toMatch(/^2500,/);
});

test('a job that has not stepped yet has none', async () => {
  const young = await createJob();
  expect((await list({}, young)).data).toEqual([]);
  expect((await csv(young)).text.split('\n')).toHaveLength(2);
});

test.each(['step-9999999', 'step-99999999999', 'ftevent-1', 'step-x'])(
  'a page after %s is empty',
  async after => {
    expect(await list({ after })).toMatchObject({ data: [], has_more: false });
  },
);

test('unknown to another project, and unknown values are refused', async () => {
  await expect(list({}, job, server.otherClient)).rejects.toMatchObject({ status: 404 });
  await expect(list({}, 'ftjob-none')).rejects.toMatchObject({ status: 404, param: 'fine_tuning_job_id' });
  await expect(list({ format: 'xml' })).rejects.toMatchObject({ status: 400, param: 'format' });
  await expect(list({ limit: 1001 })).rejects.toMatchObject({ status: 400, param: 'limit' });
});
