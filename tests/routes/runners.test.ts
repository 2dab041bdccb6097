import supertest from 'supertest';
import { expect, test } from 'vitest';
import { type Runner, removeRunners, writeRunner } from '../../src/store/runners.ts';
import { useServer } from '../support/server.ts';

const server = useServer();
const get = (key: string) =>
  supertest(server.url).get('/v1/organization/runners').auth(key, { type: 'bearer' });
const worker = (id: string): Omit<Runner, 'seenAt'> => ({
  id,
  host: 'gpu-1',
  hardware: 'An accelerator',
  engine: 'onnx',
  device: 'cuda',
  threads: 8,
  memoryBytes: 64e9,
  freeBytes: 32e9,
  memoryBudgetBytes: null,
  flopsPerSecond: 5e13,
  startedAt: new Date(1_700_000_000_000),
});

test('workers are listed while they are alive, to admin keys', async () => {
  const { pool } = server.database;
  await writeRunner(pool, worker('alive'), 60);
  await writeRunner(pool, worker('silent'), 0);
  const { body } = await get(server.adminKey).expect(200);
  expect(body).toEqual({
    object: 'list',
    data: [
      {
        object: 'organization.runner',
        id: 'alive',
        host: 'gpu-1',
        hardware: 'An accelerator',
        engine: 'onnx',
        device: 'cuda',
        threads: 8,
        memory_bytes: 64e9,
        free_memory_bytes: 32e9,
        memory_budget_bytes: null,
        flops_per_second: 5e13,
        started_at: 1_700_000_000,
        last_seen_at: expect.closeTo(Date.now() / 1000, -2),
      },
    ],
  });
  await get(server.key).expect(403);
  await removeRunners(pool, 'alive');
  expect((await get(server.adminKey)).body.data).toEqual([]);
  expect((await pool.query('select id from runners')).rows).toEqual([]);
});
