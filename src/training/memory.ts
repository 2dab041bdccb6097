// Measures how much memory of this process a piece of work takes. Accelerator memory is not visible here.
import { readFileSync, writeFileSync } from 'node:fs';

interface Usage {
  /** Resident now, and the peak since the last reset. */
  readonly resident: number;
  readonly highest: number;
  /** The part of `resident` that is file-backed, which the system can reclaim. */
  readonly mapped: number;
}

function readStatus(): Usage | null {
  try {
    const text = readFileSync('/proc/self/status', 'utf8');
    const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
    return { resident: field('VmRSS'), highest: field('VmHWM'), mapped: field('RssFile') };
  } catch {
    return null;
  }
}

function readUsage(): Usage {
  const resident = process.memoryUsage.rss();
  return readStatus() ?? { resident, highest: resident, mapped: 0 };
}

/** Resets Linux's peak; elsewhere the peak is what is resident at the end. */
function resetHighest(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // Not Linux, or not allowed here: the measurement is then an upper bound.
  }
}

/** Peak bytes of `work` beyond what was resident before, without file-backed pages. */
export async function measurePeakBytes(work: () => Promise<void>): Promise<number> {
  resetHighest();
  const before = readUsage();
  await work();
  const after = readUsage();
  const mapped = Math.max(0, after.mapped - before.mapped);
  return Math.max(0, after.highest - before.resident - mapped);
}

/** Fraction of the free memory that a run uses by default. */
const SHARE = 0.7;

/** Bytes that a run may use: what the machine (or its control group) has free, limited by the budget. */
export const memoryToUse = (budgetBytes: number | null, freeBytes = process.availableMemory()): number =>
  Math.min(budgetBytes ?? Number.POSITIVE_INFINITY, SHARE * freeBytes);

/** Resident bytes of this process that are not file-backed. */
export function ownBytes(): number {
  const { resident, mapped } = readUsage();
  return resident - mapped;
}
