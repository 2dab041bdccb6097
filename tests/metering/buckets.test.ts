import { expect, test } from 'vitest';
import { secondsUntilFits, writeDuration } from '../../src/metering/buckets.ts';

test.each([
  [0, '0ms'],
  [0.12, '120ms'],
  [1, '1s'],
  [8.64, '8.64s'],
  [59.9994, '1m0s'],
  [60, '1m0s'],
  [360, '6m0s'],
  [3661.2, '1h1m2s'],
])('%d s is written %s', (seconds, text) => {
  expect(writeDuration(seconds)).toBe(text);
});

test('how long to wait is what is too much, at the rate at which it drains', () => {
  const bucket = { model: 'all', counts: 'requests', name: '', limit: 6, used: 5.5, perSecond: 0.1 } as const;
  expect(secondsUntilFits(bucket, 1)).toBeCloseTo(5);
  expect(secondsUntilFits({ ...bucket, used: 2 }, 1)).toBe(0);
  expect(secondsUntilFits(bucket, 7)).toBe(Number.POSITIVE_INFINITY);
});
