// How fast this machine's device is, measured once when a worker starts, in a process of its own.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineOptions } from '../engine/engine.ts';
import type { DeviceRate } from '../engine/rate-child.ts';
import { readDevices } from '../monitoring/devices.ts';
import { askChild } from './ask-child.ts';

const CHILD = join(import.meta.dirname, '../engine/rate-child.ts');

export interface MeasuredDevice extends DeviceRate {
  /** The processor with its cores, or the accelerator; and the precision, where products are coarser than float32. */
  hardware: string;
}

/** Throws where the device does not compute, and the signal's reason when that is aborted. */
export async function measureDevice(
  { engine, device, precision, threads }: EngineOptions,
  signal: AbortSignal,
): Promise<MeasuredDevice> {
  const directory = await mkdtemp(join(tmpdir(), 'anneal-device-'));
  try {
    const specPath = join(directory, 'options.json');
    await writeFile(specPath, JSON.stringify({ engine, device, precision, threads } satisfies EngineOptions));
    const rate = await askChild<DeviceRate>({
      module: CHILD,
      specPath,
      what: 'measuring the device',
      signal,
    });
    const hardware = await hardwareOf(rate.device);
    return { ...rate, hardware: precision === 'bfloat16' ? `${hardware}, ${precision}` : hardware };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const processor = (): string => `${cpus()[0]?.model.trim() || process.arch} (${cpus().length})`;

async function hardwareOf(device: string): Promise<string> {
  if (device !== 'cuda') return device === 'cpu' ? processor() : `${device} on ${processor()}`;
  const [accelerator] = await readDevices();
  return accelerator?.name ?? `cuda on ${processor()}`;
}
