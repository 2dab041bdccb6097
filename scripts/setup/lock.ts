// One set-up at a time in a folder. It keeps no one from reading what is there.
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

/** True when this process now holds the lock; false while a living one does. */
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

/** Waits for the lock; it ends with the process. */
export async function holdLock(file: string): Promise<void> {
  let waited = false;
  while (!take(file)) {
    if (!waited) say('another set-up is running here; waiting for it');
    waited = true;
    await sleep(500);
  }
  process.on('exit', () => rmSync(file, { force: true }));
}
