import pino from 'pino';
import { expect, test } from 'vitest';
import { openMonitoring } from '../../src/monitoring/monitoring.ts';
import { openMetricsServer } from '../../src/monitoring/server.ts';
import { addTrainingMetrics } from '../../src/monitoring/worker-metrics.ts';
import type { TrainerEvent } from '../../src/training/protocol.ts';

const run = { jobId: 'ftjob-a', attempt: 1 };
const log = pino({ level: 'silent' });

const step = (number: number, trainedTokens: number, seconds: number): TrainerEvent => ({
  type: 'step',
  metrics: { step: number, train_loss: 1 },
  totalSteps: 9,
  epoch: 1,
  learningRate: 0.1,
  gradientNorm: 1,
  trainedTokens,
  seconds,
  flops: 0,
  remainingSeconds: 1,
});

async function* say(...batches: TrainerEvent[][]): AsyncGenerator<TrainerEvent[]> {
  yield* batches;
}

test('what a trainer says is handed on, and its steps are counted', async () => {
  const monitoring = openMonitoring();
  const metrics = addTrainingMetrics(monitoring);
  const lines = async () => (await monitoring.write()).split('\n');
  const batches = [
    [{ type: 'progress' as const, message: 'hello' }],
    [step(1, 100, 0.2), step(2, 250, 0.3)],
    [step(3, 300, 20)],
  ];
  const heard = [];
  for await (const batch of metrics.follow(say(...batches), run)) {
    heard.push(batch);
    expect(await lines()).toContain('anneal_trainings_running 1');
  }
  expect(heard).toEqual(batches);
  metrics.ended('succeeded');
  for await (const _ of metrics.follow(say([step(7, 1000, 0.2)], [step(8, 1050, 0.2)]), run)); // went on after a crash
  expect(await lines()).toEqual(
    expect.arrayContaining([
      'anneal_trainings_running 0',
      'anneal_training_step_seconds_count 5',
      'anneal_training_step_seconds_bucket{le="0.25"} 3',
      'anneal_trained_tokens_total 350',
      'anneal_runs_ended_total{end="succeeded"} 1',
    ]),
  );
});

test('a worker answers /metrics to who has the token, and nothing else', async () => {
  const monitoring = openMonitoring();
  const server = await openMetricsServer({ monitoring, token: 'token-1', host: '127.0.0.1', port: 0, log });
  const get = async (path: string, token: string) => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers });
    return { status: response.status, text: await response.text() };
  };
  expect((await get('/metrics', 'token-1')).text).toContain('anneal_build_info{version="');
  expect(await get('/metrics', 'token-2')).toEqual({ status: 401, text: '' });
  expect(await get('/', 'token-1')).toEqual({ status: 404, text: '' });
  await server.close();
  await expect(get('/metrics', 'token-1')).rejects.toThrow();
});
