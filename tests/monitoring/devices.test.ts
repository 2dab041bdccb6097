import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readDevices } from '../../src/monitoring/devices.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-devices-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function toolThat(script: string): Promise<string> {
  const path = join(folder, 'nvidia-smi');
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

test('memory by device; one that does not tell is left out', async () => {
  const tool = await toolThat(
    String.raw`printf '0, NVIDIA H100 80GB HBM3, 1024, 81559\n1, NVIDIA GB10, [N/A], [N/A]\n'`,
  );
  expect(await readDevices(tool)).toEqual([
    { index: '0', name: 'NVIDIA H100 80GB HBM3', usedBytes: 1024 * 2 ** 20, totalBytes: 81559 * 2 ** 20 },
  ]);
});

test('no tool, no driver, no words: none', async () => {
  expect(await readDevices(join(folder, 'nowhere'))).toEqual([]);
  expect(await readDevices(await toolThat('echo "couldn’t communicate with the driver"; exit 9'))).toEqual(
    [],
  );
  expect(await readDevices(await toolThat('true'))).toEqual([]);
});
