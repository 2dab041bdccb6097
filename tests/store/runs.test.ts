// What a run leaves in the database: steps once, checkpoints as many as are kept, the objects that are still named.
import { beforeEach, expect, test } from 'vitest';
import { insertJob } from '../../src/store/jobs.ts';
import { insertModel, upsertBaseModel } from '../../src/store/models.ts';
import { ensureDefaultProject } from '../../src/store/projects.ts';
import {
  dropOldModels,
  dropOldResumePoints,
  findResumePoint,
  findRootModel,
  findUsedKeys,
  insertCheckpoint,
  readMetrics,
  type Step,
  writeSteps,
} from '../../src/store/runs.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();
let jobId = '';

beforeEach(async () => {
  await ensureDefaultProject(database.pool);
  await upsertBaseModel(database.pool, { id: 'base', architecture: 'llama', ownedBy: 'system', files: [] });
  const job = await insertJob(database.pool, {
    projectId: 'proj_default',
    apiKeyId: null,
    model: 'base',
    trainingFile: 'file-1',
    validationFile: null,
    suffix: null,
    seed: 1,
    metadata: null,
    method: { type: 'supervised', supervised: { hyperparameters: {} } },
  });
  jobId = job.id;
});

function step(number: number, loss: number, seconds = 1): Step {
  return {
    type: 'step',
    metrics: { step: number, train_loss: loss, train_mean_token_accuracy: 0.1 + 0.2 },
    totalSteps: 10,
    epoch: 1,
    learningRate: 1e-5 / 3,
    gradientNorm: 1,
    trainedTokens: 10 * number,
    seconds,
    flops: 0,
    remainingSeconds: 5,
  };
}

test('metrics come back to the last bit', async () => {
  const loss = 1.2345678901234566e-7;
  await writeSteps(database.pool, jobId, [step(1, loss), step(2, Number.MIN_VALUE)]);
  const metrics = await readMetrics(database.pool, jobId);
  expect(metrics.map(row => row.train_loss)).toEqual([loss, Number.MIN_VALUE]);
  expect(metrics[0]!.train_mean_token_accuracy).toBe(0.1 + 0.2);
});

test('a step done again stays as it was; other numbers are told', async () => {
  expect(await writeSteps(database.pool, jobId, [step(1, 0.5), step(2, 0.4)])).toEqual([]);
  expect(await writeSteps(database.pool, jobId, [step(2, 0.4, 99), step(3, 0.3)])).toEqual([]);
  expect(await writeSteps(database.pool, jobId, [step(2, 0.41), step(3, 0.3), step(4, 0.2)])).toEqual([2]);
  const metrics = await readMetrics(database.pool, jobId);
  expect(metrics.map(row => row.train_loss)).toEqual([0.5, 0.4, 0.3, 0.2]);
});

async function putModelCheckpoint(at: number, validation: Partial<Step['metrics']> = {}): Promise<void> {
  const model = `ft:${jobId}:ckpt-step-${at}`;
  const files = [{ path: 'weights', key: `jobs/${jobId}/1/model-step-${at}/weights`, bytes: 1, sha256: '' }];
  const metrics = { ...step(at, 1).metrics, ...validation };
  await insertCheckpoint(database.pool, jobId, { kind: 'model', step: at, model, metrics, files });
  await insertModel(database.pool, {
    id: model,
    projectId: 'proj_default',
    kind: 'adapter',
    architecture: 'llama',
    baseModel: 'base',
    jobId,
    step: at,
    ownedBy: 'org',
    files,
  });
  await dropOldModels(database.pool, jobId, 3);
}

async function keptSteps(): Promise<string[]> {
  const { rows } = await database.pool.query(
    'select step, model from job_checkpoints where job_id = $1 order by step',
    [jobId],
  );
  return rows.map(row => `${row.step}${row.model ? '' : ' unnamed'}`);
}

test('the last three checkpoints are models; without validation nothing else is kept', async () => {
  for (const at of [1, 2, 3, 4, 5]) await putModelCheckpoint(at);
  expect(await keptSteps()).toEqual(['3', '4', '5']);
  const { rows } = await database.pool.query(
    'select step from models where job_id = $1 and deleted_at is null',
    [jobId],
  );
  expect(rows.map(row => row.step).sort()).toEqual([3, 4, 5]);
});

test('the best by validation is kept without a name, until a better one comes', async () => {
  const losses = [3, 1, 2, 2, 2, 2, 0.5, 1, 1, 1];
  for (const [index, loss] of losses.entries()) {
    await putModelCheckpoint(index + 1, { full_valid_loss: loss });
    if (index === 5) expect(await keptSteps()).toEqual(['2 unnamed', '4', '5', '6']);
  }
  expect(await keptSteps()).toEqual(['7 unnamed', '8', '9', '10']);
  expect(await findUsedKeys(database.pool, jobId)).toEqual(
    new Set([7, 8, 9, 10].map(at => `jobs/${jobId}/1/model-step-${at}/weights`)),
  );
});

test('of graded answers the best is the one with the highest reward', async () => {
  const rewards = [0.2, 0.9, 0.4, 0.5, 0.6, 0.7];
  for (const [index, reward] of rewards.entries())
    await putModelCheckpoint(index + 1, { full_valid_reward_mean: reward });
  expect(await keptSteps()).toEqual(['2 unnamed', '4', '5', '6']);
});

test('one checkpoint for resuming is kept: the last', async () => {
  for (const at of [5, 10, 15]) {
    const files = [{ path: 'state', key: `k${at}`, bytes: 1, sha256: '' }];
    const metrics = step(at, 1).metrics;
    await insertCheckpoint(database.pool, jobId, { kind: 'resume', step: at, model: null, metrics, files });
    await dropOldResumePoints(database.pool, jobId);
  }
  expect(await findResumePoint(database.pool, jobId)).toMatchObject({ step: 15, files: [{ key: 'k15' }] });
  expect(await findUsedKeys(database.pool, jobId)).toEqual(new Set(['k15']));
});

test('a checkpoint forgives what went wrong before it', async () => {
  await database.pool.query('update jobs set crashes = 2, lost_leases = 5 where id = $1', [jobId]);
  const checkpoint = {
    kind: 'resume',
    step: 1,
    model: null,
    metrics: step(1, 1).metrics,
    files: [],
  } as const;
  expect(await insertCheckpoint(database.pool, jobId, { ...checkpoint, files: [] })).toBe(true);
  expect(await insertCheckpoint(database.pool, jobId, { ...checkpoint, files: [] })).toBe(false);
  const { rows } = await database.pool.query('select crashes, lost_leases from jobs where id = $1', [jobId]);
  expect(rows).toEqual([{ crashes: 0, lost_leases: 0 }]);
});

test('the root of a chain of models', async () => {
  const model = {
    projectId: 'proj_default',
    architecture: 'llama',
    jobId: null,
    step: null,
    ownedBy: 'o',
    files: [],
  };
  await insertModel(database.pool, { ...model, id: 'ft:full', kind: 'full', baseModel: 'base' });
  await insertModel(database.pool, { ...model, id: 'ft:on-full', kind: 'adapter', baseModel: 'ft:full' });
  expect(await findRootModel(database.pool, 'ft:on-full')).toBe('base');
  expect(await findRootModel(database.pool, 'base')).toBe('base');
});
