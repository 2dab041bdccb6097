// Progress display: a bar on a terminal, otherwise a line of text per finished item.
import type { Transfer } from './add-model.ts';

interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const WIDTH = 30;

/** `[#####.....]` */
export function bar(done: number, total: number, width = WIDTH): string {
  const filled = total > 0 ? Math.min(width, Math.floor((done / total) * width)) : width;
  return `[${'#'.repeat(filled)}${'.'.repeat(width - filled)}]`;
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

/** Shows the progress of a transfer; on a terminal redrawn in place, at most ten times a second. */
export function showTransfers(output: Output): (transfer: Transfer) => void {
  let shownAt = 0;
  return ({ path, doneBytes, totalBytes }) => {
    const whole = doneBytes >= totalBytes;
    if (!output.isTTY) {
      if (whole) output.write(`${path}  ${formatBytes(totalBytes)}\n`);
      return;
    }
    if (!whole && Date.now() - shownAt < 100) return;
    shownAt = Date.now();
    const amounts = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    output.write(`\r\x1b[K${bar(doneBytes, totalBytes)} ${path}  ${amounts}${whole ? '\n' : ''}`);
  };
}
