// How fast this machine's device is, measured once when a worker starts, in a process of its own.
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { EngineOptions } from '../engine/engine.ts';
import type { DeviceRate } from '../engine/rate-child.ts';
import { readDevices } from '../monitoring/devices.ts';
import { askWithSpec } from './ask-child.ts';

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
