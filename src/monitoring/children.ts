// The child processes of this process and their memory, from /proc. Empty on other systems than Linux.
import { readdir, readFile } from 'node:fs/promises';

export interface ChildProcess {
  /** Its module below src: `serving/child`, `training/child`, ... */
  program: string;
  residentBytes: number;
}

const KIB = 1024;

export async function readChildren(): Promise<ChildProcess[]> {
  const threads = await readdir('/proc/self/task').catch(() => []);
  const lists = await Promise.all(threads.map(thread => readText(`/proc/self/task/${thread}/children`)));
  const pids = lists.flatMap(list => list?.trim().split(/\s+/) ?? []).filter(pid => pid !== '');
  const children = await Promise.all(pids.map(readChild));
  return children.filter(child => child !== null);
}

async function readChild(pid: string): Promise<ChildProcess | null> {
  const command = await readText(`/proc/${pid}/cmdline`);
  const program = /\/src\/([\w-]+(?:\/[\w-]+)*)\.ts(?:\0|$)/.exec(command ?? '')?.[1];
  const status = await readText(`/proc/${pid}/status`);
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status ?? '')?.[1];
  return program && kib ? { program, residentBytes: Number(kib) * KIB } : null;
}

/** Null if the process has ended meanwhile. */
async function readText(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}
