// NVIDIA GPUs and their memory, from nvidia-smi. Empty where it is not installed.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface Device {
  index: string;
  name: string;
  usedBytes: number;
  totalBytes: number;
}

const MIB = 2 ** 20;
const TIMEOUT_MS = 3000;
const query = ['--query-gpu=index,name,memory.used,memory.total', '--format=csv,noheader,nounits'];

export async function readDevices(tool = 'nvidia-smi'): Promise<Device[]> {
  try {
    const { stdout } = await promisify(execFile)(tool, query, { timeout: TIMEOUT_MS });
    return stdout.trim().split('\n').flatMap(readLine);
  } catch {
    return []; // not installed, no driver, or a timeout
  }
}

/** `0, NVIDIA H100 80GB HBM3, 1024, 81559`, in MiB; `[N/A]` for unknown values. */
function readLine(line: string): Device[] {
  const [index = '', name = '', used, total] = line.split(',').map(field => field.trim());
  const [usedBytes, totalBytes] = [Number(used) * MIB, Number(total) * MIB];
  return Number.isFinite(usedBytes) && totalBytes > 0 ? [{ index, name, usedBytes, totalBytes }] : [];
}
