// A worker's entry among those that are alive: there from its start to its end, with its speed and those of its runs.
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { measureDevice } from '../../src/queue/measure-device.ts';
import { findRunSpeed, listRunners } from '../../src/store/runners.ts';
import { useDatabase } from '../support/postgres.ts';
import { openSetting, SCRIPTED_TRAINER, type Setting, scripted, waitFor, waitForStatus } from './setting.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const database = useDatabase();
let setting: Setting;
beforeAll(async () => {
  setting = await openSetting({ databaseUrl: database.url });
});
afterAll(() => setting.close());

test('the device is measured in a process of its own', async () => {
  const measured = await measureDevice(
    { engine: 'onnx', device: 'cpu', threads: 1 },
    new AbortController().signal,
  );
  expect(measured).toEqual({
    device: 'cpu',
    hardware: expect.stringMatching(/\(\d+\)$/),
    flopsPerSecond: expect.any(Number),
  });
  expect(measured.flopsPerSecond).toBeGreaterThan(1e6);
});

test('a worker is there while it runs, and its runs leave their speed', async () => {
  const device = { device: 'cpu', hardware: 'A processor (2)', flopsPerSecond: 1e10 };
  const worker = await setting.startWorker({
    trainerModule: SCRIPTED_TRAINER,
    measureDevice: async () => device,
  });
  const alive = () => listRunners(setting.pool);
  const [runner] = await waitFor('the worker is measured', async () => {
    const found = await alive();
    return found[0]?.flopsPerSecond ? found : null;
  });
  expect(runner).toMatchObject({ ...device, engine: 'onnx', threads: 1, memoryBudgetBytes: null });
  expect(runner!.freeBytes).toBeLessThanOrEqual(runner!.memoryBytes);
  const job = await setting.createJob({ trainingFile: await setting.putFile(scripted({ steps: 6 })) });
  await waitForStatus(setting.pool, job, 'succeeded');
  const speed = await waitFor('the speed of the run', async () => {
    const { rows } = await setting.pool.query('select * from run_speeds');
    return rows[0];
  });
  expect(speed).toMatchObject({
    hardware: device.hardware,
    model: 'llama-tiny',
    adapter: 'lora',
    flops: 5e6,
  });
  expect(await findRunSpeed(setting.pool, speed)).toBeCloseTo(speed.flops / speed.seconds, 3);
  await worker.close();
  expect(await alive()).toEqual([]);
});
