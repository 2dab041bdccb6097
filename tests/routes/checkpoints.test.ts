import { toFile } from 'openai';
import { expect, test } from 'vitest';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();

test('lists the served checkpoints, newest first, with their metrics', async () => {
  const { id: file } = await server.client.files.create({
    file: await toFile(Buffer.from('{}'), 'a.jsonl'),
    purpose: 'fine-tune',
  });
  const job = await server.client.fineTuning.jobs.create({ model: BASE_MODEL, training_file: file });
  for (const [step, kind] of [
    [10, 'model'],
    [15, 'resume'],
    [20, 'model'],
    [30, 'model'],
  ] as const) {
    await server.database.pool.query(
      `insert into job_checkpoints (id, job_id, step, kind, model, metrics, files) values ($1, $2, $3, $4, $5, $6, '[]')`,
      [
        `ftckpt_${step}`,
        job.id,
        step,
        kind,
        kind === 'model' ? `ft:x:ckpt-step-${step}` : null,
        { step, train_loss: 1 / step, gradient_norm: 9 },
      ],
    );
  }
  const seen = [];
  for await (const checkpoint of server.client.fineTuning.jobs.checkpoints.list(job.id, { limit: 2 }))
    seen.push(checkpoint);
  expect(seen.map(checkpoint => checkpoint.step_number)).toEqual([30, 20, 10]);
  expect(seen[0]).toEqual({
    id: 'ftckpt_30',
    object: 'fine_tuning.job.checkpoint',
    created_at: expect.any(Number),
    fine_tuned_model_checkpoint: 'ft:x:ckpt-step-30',
    fine_tuning_job_id: job.id,
    step_number: 30,
    metrics: { step: 30, train_loss: 1 / 30 },
  });
});
