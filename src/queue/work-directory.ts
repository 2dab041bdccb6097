// The worker's folder below the data folder. Folders of killed workers are removed when a worker starts.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

export interface WorkDirectory {
  /** Name of the folder, and the worker's id in leases. */
  readonly runnerId: string;
  /** Creates an empty folder. */
  open(name: string): Promise<string>;
  remove(name: string): Promise<void>;
  /** Marks the folder as in use. */
  touch(): Promise<void>;
  close(): Promise<void>;
}

/** A folder of another machine's worker is removed if it was not touched for this long. */
const ABANDONED_MS = 24 * 3600_000;
const ALIVE = 'alive';
/** Tells this process from an earlier one with the same pid: in containers every worker may have pid 1. */
const STARTED_MS = Math.round(performance.timeOrigin);

export async function openWorkDirectory(dataDirectory: string): Promise<WorkDirectory> {
  const all = join(dataDirectory, 'work');
  await mkdir(all, { recursive: true });
  await removeOrphans(all);
  const runnerId = `${hostname()}.${process.pid}.${STARTED_MS}.${randomUUID().slice(0, 8)}`;
  const own = join(all, runnerId);
  /** Creates the folder again if the data folder was cleared meanwhile. */
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

/** Failures are left for the next start: a dying trainer may still write, or another worker removes the same folder. */
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
