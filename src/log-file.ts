// An append-only log file. If the disk is full, lines are dropped, which is reported once, until there is room again.
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { dirname } from 'node:path';

/** Returns a function that appends a line. `say` is called when lines start being dropped. */
export function openLogFile(path: string, say: (line: string) => void): (line: string) => void {
  mkdirSync(dirname(path), { recursive: true });
  let isLosing = false;
  const open = (): WriteStream =>
    createWriteStream(path, { flags: 'a' }).on('error', ({ message }) => {
      if (!isLosing) say(`${path} cannot be written, and loses lines until it can: ${message}`);
      isLosing = true;
    });
  let file = open();
  return line => {
    if (file.destroyed) file = open();
    file.write(`${line}\n`, error => {
      if (!error) isLosing = false;
    });
  };
}
