// Workers as processes of their own, and the trainers below them, for tests that kill them.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

const WORKER = join(import.meta.dirname, 'worker-process.ts');

export interface WorkerProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Resolves when the process is gone. */
  end(signal: NodeJS.Signals): Promise<void>;
}

/** Resolves when the worker runs. */
export async function startWorkerProcess(environment: Record<string, string>): Promise<WorkerProcess> {
  const child = fork(WORKER, {
    env: { ...process.env, ANNEAL_LOG_LEVEL: 'warn', ...environment },
    stdio: ['ignore', 'ignore', process.env.TEST_LOG_LEVEL ? 'inherit' : 'ignore', 'ipc'],
  });
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`the worker ended with ${code} at its start`);
  });
  await Promise.race([once(child, 'message'), failed]);
  failed.catch(() => undefined);
  return {
    child,
    pid: child.pid!,
    async end(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill(signal);
      await gone;
    },
  };
}

/** Process ids of the trainers that belong to a worker. Linux only. */
export async function trainersOf(workerPid: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
    if (!status.includes(`PPid:\t${workerPid}\n`)) continue;
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    if (command.includes('spec.json')) found.push(Number(name));
  }
  return found;
}

/** False for a process that is there only to be waited for. */
export async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return status !== '' && !/^State:\tZ/m.test(status);
}
