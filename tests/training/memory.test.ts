// Peak memory as it is measured on this machine.
import { describe, expect, it } from 'vitest';
import { measurePeakBytes, memoryToUse } from '../../src/training/memory.ts';

describe('memory', () => {
  it.runIf(process.platform === 'linux')(
    'of a piece of work is its peak, also when it was given back',
    async () => {
      const peak = await measurePeakBytes(async () => {
        for (let round = 0; round < 3; round++) new Uint8Array(new ArrayBuffer(200_000_000)).fill(round + 1);
      });
      expect(peak).toBeGreaterThan(190_000_000);
      expect(await measurePeakBytes(async () => {})).toBeLessThan(50_000_000);
    },
  );

  it('to use is what is free, or the budget where that is less', () => {
    expect(memoryToUse(1000)).toBe(1000);
    const free = memoryToUse(null);
    expect(free).toBeGreaterThan(0);
    expect(free).toBeLessThan(process.availableMemory());
  });
});
