// Measures the speed of this machine's device in a child process, once when a worker starts.
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { EngineOptions } from '../engine/engine.ts';
import type { DeviceRate } from '../engine/rate-child.ts';
import { readDevices } from '../monitoring/devices.ts';
import { askWithSpec } from './ask-child.ts';

const CHILD = join(import.meta.dirname, '../engine/rate-child.ts');

export interface MeasuredDevice extends DeviceRate {
  /** Name of the CPU with its number of cores, or of the accelerator; with the precision if it is not float32. */
  hardware: string;
}

/** Throws when the device does not work, and the signal's reason when it is aborted. */
export async function measureDevice(
  { engine, device, precision, threads }: EngineOptions,
  signal: AbortSignal,
): Promise<MeasuredDevice> {
  const rate = await askWithSpec<DeviceRate>({
    module: CHILD,
    spec: { engine, device, precision, threads } satisfies EngineOptions,
    what: 'measuring the device',
    signal,
  });
  const hardware = await hardwareOf(rate.device);
  return { ...rate, hardware: precision === 'bfloat16' ? `${hardware}, ${precision}` : hardware };
}

const processor = (): string => `${cpus()[0]?.model.trim() || process.arch} (${cpus().length})`;

async function hardwareOf(device: string): Promise<string> {
  if (device !== 'cuda') return device === 'cpu' ? processor() : `${device} on ${processor()}`;
  const [accelerator] = await readDevices();
  return accelerator?.name ?? `cuda on ${processor()}`;
}
