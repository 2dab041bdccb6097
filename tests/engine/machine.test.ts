// The memory that a process may count on, with the limits of a container set by hand.
import { totalmem } from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { machineBytes } from '../../src/engine/machine.ts';

const GIB = 2 ** 30;
const limitTo = (bytes: number) => vi.spyOn(process, 'constrainedMemory').mockReturnValue(bytes);

afterEach(() => {
  vi.restoreAllMocks();
});

test.each([
  { where: 'without control groups', limit: 0, expected: totalmem() },
  { where: 'in a control group without a limit', limit: 2 ** 64, expected: totalmem() },
  { where: 'in a container with a limit', limit: GIB, expected: GIB },
])('the memory $where', ({ limit, expected }) => {
  limitTo(limit);
  expect(machineBytes()).toBe(expected);
});

test('answering takes a quarter of its container, not of the machine', () => {
  limitTo(GIB);
  expect(readConfig({}).servingMemoryBytes).toBe(GIB / 4);
});
