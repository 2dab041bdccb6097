// Runs a contender: a process that measures itself and prints JSON as its last line. Meanwhile the memory of the
// machine's NVIDIA GPUs is sampled from outside, the same way for every contender.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Provider } from '../src/engine/onnx/lowering.ts';

export const DEVICES: readonly Provider[] = ['cpu', 'cuda', 'webgpu'];

export function parseDevice(name: string): Provider {
  const device = DEVICES.find(known => known === name);
  if (device) return device;
  throw new Error(`--device must be one of ${DEVICES.join(', ')}, got '${name}'`);
}

/** PyTorch's device for the comparison: it has no WebGPU. */
export const torchDevice = (device: Provider): 'cpu' | 'cuda' => (device === 'cpu' ? 'cpu' : 'cuda');

const run = promisify(execFile);

/** Memory in use on all GPUs by all processes; null without NVIDIA's driver. */
async function cardBytes(): Promise<number | null> {
  const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits'];
  const answer = await run('nvidia-smi', query).catch(() => null);
  const lines = answer?.stdout.trim().split('\n').map(Number);
  return lines ? lines.reduce((sum, mebibytes) => sum + mebibytes, 0) * 2 ** 20 : null;
}

const MS_BETWEEN_READINGS = 200;

/** Samples from now on; `stop` returns the peak beyond what was in use before. */
export async function watchCards(): Promise<{ stop(): Promise<number | null> }> {
  const before = await cardBytes();
  if (before === null) return { stop: async () => null };
  let [most, going] = [before, true];
  const watching = (async () => {
    while (going) {
      most = Math.max(most, (await cardBytes()) ?? 0);
      await sleep(MS_BETWEEN_READINGS);
    }
  })();
  return {
    async stop() {
      going = false;
      await watching;
      return most - before;
    },
  };
}

export interface OnCards {
  /** Peak GPU memory; null without a GPU. */
  readonly cardBytes: number | null;
}

/** Lines that Node prints after an error's message: the stack, and its version. */
const AFTER_THE_REASON = /^\s*at |^Node\.js v|^\s*$/;

function endOf(errors: string): string {
  const lines = errors.split('\n').filter(line => !AFTER_THE_REASON.test(line));
  return lines.slice(-3).join(' | ') || 'it ended early';
}

/** Returns what the contender printed. Throws with the end of its stderr. */
export async function runContender<Printed>(
  command: string,
  args: readonly string[],
  input = '',
  environment = process.env,
): Promise<Printed & OnCards> {
  const cards = await watchCards();
  const child = spawn(command, args, { stdio: 'pipe', env: environment });
  child.stdin.on('error', () => undefined); // one that ended without reading says why on its error output
  child.stdin.end(input);
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  const taken = await cards.stop();
  if (child.exitCode !== 0) throw new Error(endOf(errors));
  return { ...JSON.parse(output.trim().split('\n').at(-1)!), cardBytes: taken };
}
