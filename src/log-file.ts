// A file that lines are added to. Lines that a full disk does not take are lost, which is said once; the file goes on when there is room.
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { dirname } from 'node:path';

/** Returns what adds a line. `say` is told when lines begin to be lost. */
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
