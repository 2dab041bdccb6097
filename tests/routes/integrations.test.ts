import { beforeAll, describe, expect, test } from 'vitest';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer({
  environment: { WANDB_API_KEY: 'k'.repeat(40), WANDB_BASE_URL: 'http://127.0.0.1:1' },
});
const plain = useServer();
const files = new Map<typeof server, string>();

beforeAll(async () => {
  for (const one of [server, plain]) {
    const file = new File(['{}\n'], 'a.jsonl');
    files.set(one, (await one.client.files.create({ file, purpose: 'fine-tune' })).id);
  }
});

const create = (one: typeof server, integrations: unknown, extra: object = {}) =>
  one.client.fineTuning.jobs.create({
    model: BASE_MODEL,
    training_file: files.get(one)!,
    integrations: integrations as never,
    ...extra,
  });

test('a job says where it is followed', async () => {
  const wandb = { project: 'support', tags: ['a'] };
  const job = await create(server, [
    { type: 'wandb', wandb },
    { type: 'wandb', wandb: { project: 'other', name: 'n', entity: 'team' } },
  ]);
  const expected = [
    { type: 'wandb', wandb: { project: 'support', name: null, entity: null, tags: ['a'], run_id: job.id } },
    {
      type: 'wandb',
      wandb: { project: 'other', name: 'n', entity: 'team', tags: [], run_id: `${job.id}-2` },
    },
  ];
  expect(job.integrations).toEqual(expected);
  expect((await server.client.fineTuning.jobs.retrieve(job.id)).integrations).toEqual(expected);
  const { rows } = await server.database.pool.query('select position from wandb_runs where job_id = $1', [
    job.id,
  ]);
  expect(rows.map(({ position }) => position)).toEqual([0, 1]);
});

test('none, or null, is none, on any server', async () => {
  expect((await create(plain, null)).integrations).toEqual([]);
  expect((await create(plain, [])).integrations).toEqual([]);
});

describe('is refused', () => {
  test('where it is not configured', async () => {
    await expect(create(plain, [{ type: 'wandb', wandb: { project: 'p' } }])).rejects.toMatchObject({
      status: 400,
      param: 'integrations',
      message: expect.stringContaining('set WANDB_API_KEY'),
    });
  });

  test.each([
    ['another kind', [{ type: 'mlflow', wandb: { project: 'p' } }], 'integrations[0].type'],
    ['one without a project', [{ type: 'wandb', wandb: {} }], 'integrations[0].wandb.project'],
    [
      'a key in it',
      [{ type: 'wandb', wandb: { project: 'p', api_key: 'x' } }],
      'integrations[0].wandb.api_key',
    ],
  ])('%s', async (_, integrations, param) => {
    await expect(create(server, integrations)).rejects.toMatchObject({ status: 400, param });
  });

  test('more than five', async () => {
    const many = Array(6).fill({ type: 'wandb', wandb: { project: 'p' } });
    await expect(create(server, many)).rejects.toMatchObject({ status: 400, param: 'integrations' });
  });
});
