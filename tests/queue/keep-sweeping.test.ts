// Sweeps after an outage: live runners get the time of a lease to renew theirs, counted from when the database answers again.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { openLog } from '../../src/log.ts';
import { keepSweeping } from '../../src/queue/keep-sweeping.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const LEASE_SECONDS = 3;

function openWorker() {
  const worker = { away: false, sweeps: 0 };
  const answer = async () => {
    if (worker.away) throw new Error('connection refused');
  };
  const stop = keepSweeping({
    leaseSeconds: LEASE_SECONDS,
    log: openLog({ level: 'silent', process: 'worker' }),
    beat: answer,
    async sweep() {
      await answer();
      worker.sweeps++;
    },
  });
  return { worker, stop };
}

test('three sweeps per lease, the first one at once', async () => {
  const { worker, stop } = openWorker();
  await vi.advanceTimersByTimeAsync(0);
  expect(worker.sweeps).toBe(1);
  await vi.advanceTimersByTimeAsync(LEASE_SECONDS * 1000);
  expect(worker.sweeps).toBe(4);
  await stop();
  await vi.advanceTimersByTimeAsync(LEASE_SECONDS * 1000);
  expect(worker.sweeps).toBe(4);
});

test.each([2, 4, 5.5, 31])('after %d s without the database it sweeps a lease later', async seconds => {
  const { worker, stop } = openWorker();
  await vi.advanceTimersByTimeAsync(500);
  worker.away = true;
  await vi.advanceTimersByTimeAsync(seconds * 1000);
  worker.away = false;
  const before = worker.sweeps;
  await vi.advanceTimersByTimeAsync(LEASE_SECONDS * 1000 - 1);
  expect(worker.sweeps).toBe(before);
  await vi.advanceTimersByTimeAsync(LEASE_SECONDS * 1000);
  expect(worker.sweeps).toBeGreaterThan(before);
  await stop();
});
