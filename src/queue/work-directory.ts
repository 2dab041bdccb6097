// The worker's own folder below the data folder. What a killed worker left is removed when another starts.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

export interface WorkDirectory {
  /** Also names the worker on the jobs that it holds. */
  readonly runnerId: string;
  /** Makes an empty folder. */
  open(name: string): Promise<string>;
  remove(name: string): Promise<void>;
  /** Says that the worker is alive. */
  touch(): Promise<void>;
  close(): Promise<void>;
}

/** A folder of another machine's worker that was not touched for so long is nobody's. */
const ABANDONED_MS = 24 * 3600_000;
const ALIVE = 'alive';
/** Tells us from a process before us with our number: in a container every worker may be number 1. */
const STARTED_MS = Math.round(performance.timeOrigin);

export async function openWorkDirectory(dataDirectory: string): Promise<WorkDirectory> {
  const all = join(dataDirectory, 'work');
  await mkdir(all, { recursive: true });
  await removeOrphans(all);
  const runnerId = `${hostname()}.${process.pid}.${STARTED_MS}.${randomUUID().slice(0, 8)}`;
  const own = join(all, runnerId);
  /** Also when somebody cleared the data folder below us. */
  const touch = async () => {
    await mkdir(own, { recursive: true });
    await writeFile(join(own, ALIVE), '');
  };
  await touch();
  return {
    runnerId,
    async open(name) {
      const path = join(own, name);
      await rm(path, { recursive: true, force: true });
      await mkdir(path, { recursive: true });
      return path;
    },
    remove: name => rm(join(own, name), { recursive: true, force: true, maxRetries: 5 }),
    touch,
    close: () => rm(own, { recursive: true, force: true, maxRetries: 5 }),
  };
}

/** What cannot be removed now (a dying trainer still writes into it, another worker removes it, too) is left for the next start. */
async function removeOrphans(all: string): Promise<void> {
  for (const name of await readdir(all)) {
    if (!(await isOrphan(all, name))) continue;
    await rm(join(all, name), { recursive: true, force: true, maxRetries: 2 }).catch(() => undefined);
  }
}

async function isOrphan(all: string, name: string): Promise<boolean> {
  const [, host, pid, startedMs] = /^(.*)\.(\d+)\.(\d+)\.[0-9a-f]{8}$/.exec(name) ?? [];
  if (host === hostname()) return !isAlive(Number(pid), Number(startedMs));
  const touched = await stat(join(all, name, ALIVE)).catch(() => null);
  return !touched || Date.now() - touched.mtimeMs > ABANDONED_MS;
}

function isAlive(pid: number, startedMs: number): boolean {
  if (pid === process.pid) return startedMs === STARTED_MS;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
