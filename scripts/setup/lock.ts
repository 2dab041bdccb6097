// A lock file that allows only one setup at a time in a folder. Readers are not blocked.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { say } from './say.ts';

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Returns true if this process now holds the lock, false if another running process does. */
function take(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (!isAlive(Number(readFileSync(file, 'utf8')))) rmSync(file, { force: true });
    return false;
  }
}

/** Waits for the lock; it is released when the process exits. */
export async function holdLock(file: string): Promise<void> {
  let waited = false;
  while (!take(file)) {
    if (!waited) say('another set-up is running here; waiting for it');
    waited = true;
    await sleep(500);
  }
  process.on('exit', () => rmSync(file, { force: true }));
}
