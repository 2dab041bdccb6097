// Contenders of the benchmarks: what they print, what they took of a card, how they fail.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { parseDevice, runContender } from '../../benchmarks/contender.ts';

const scratch = mkdtempSync(join(tmpdir(), 'anneal-contender-'));
afterAll(() => rmSync(scratch, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

/** 100 and 10 MiB of two cards at first, 350 and 10 from then on; `readings` has a line for each. */
const NVIDIA_SMI = `#!/bin/sh
echo >> ${scratch}/readings
if [ $(wc -l < ${scratch}/readings) -eq 1 ]; then echo 100; else echo 350; fi
echo 10
`;

test('the last line is what was measured, the card is watched meanwhile', async () => {
  writeFileSync(join(scratch, 'nvidia-smi'), NVIDIA_SMI, { mode: 0o755 });
  vi.stubEnv('PATH', `${scratch}${delimiter}${process.env.PATH}`);
  // Until the card was read a third time: by then the second reading is done.
  const waiting = `while [ $(wc -l < ${scratch}/readings) -lt 3 ]; do sleep 0.02; done`;
  const script = `read given; ${waiting}; echo something; echo "{\\"given\\": $given}"`;
  const measured = await runContender<{ given: number }>('sh', ['-c', script], '7\n');
  expect(measured).toEqual({ given: 7, cardBytes: 250 * 2 ** 20 });
});

test('without a card nothing is said of one', async () => {
  vi.stubEnv('PATH', '');
  const print = ['-e', 'console.log("{}")'];
  expect(await runContender(process.execPath, print)).toEqual({ cardBytes: null });
});

test('one that fails is told by the end of what it said', async () => {
  const fail = ['-c', 'for i in 1 2 3 4; do echo "line $i" >&2; done; exit 1'];
  await expect(runContender('sh', fail)).rejects.toThrow('line 2 | line 3 | line 4');
  const thrown = ['-e', 'throw new Error("the reason")'];
  await expect(runContender(process.execPath, thrown)).rejects.toThrow(/Error: the reason$/);
  await expect(runContender(join(scratch, 'nothing'), [])).rejects.toThrow('ENOENT');
});

test('a device that is none is refused', () => {
  expect(parseDevice('webgpu')).toBe('webgpu');
  expect(() => parseDevice('gpu')).toThrow("--device must be one of cpu, cuda, webgpu, got 'gpu'");
});
