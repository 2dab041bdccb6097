// How much memory a piece of work takes, measured on this process. Memory of accelerators is not seen from here.
import { readFileSync, writeFileSync } from 'node:fs';

interface Usage {
  /** Resident now, and the highest since the last reset. */
  readonly resident: number;
  readonly highest: number;
  /** The part of `resident` that is mapped from files: the system takes it back when it needs to. */
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

/** Linux forgets the highest mark on request; elsewhere the mark is what is resident at the end. */
function resetHighest(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // Not Linux, or not allowed here: the measurement is then an upper bound.
  }
}

/** Bytes that `work` needed at its peak beyond what was there before, without pages of mapped files. */
export async function measurePeakBytes(work: () => Promise<void>): Promise<number> {
  resetHighest();
  const before = readUsage();
  await work();
  const after = readUsage();
  const mapped = Math.max(0, after.mapped - before.mapped);
  return Math.max(0, after.highest - before.resident - mapped);
}

/** Part of the free memory that a run takes when nobody says how much it may. */
const SHARE = 0.7;

/** Bytes that a run may still take: what the machine (or its control group) has free, or less where a budget says so. */
export const memoryToUse = (budgetBytes: number | null, freeBytes = process.availableMemory()): number =>
  Math.min(budgetBytes ?? Number.POSITIVE_INFINITY, SHARE * freeBytes);

/** Bytes of this process that the system cannot take back, as it can pages of mapped files. */
export function ownBytes(): number {
  const { resident, mapped } = readUsage();
  return resident - mapped;
}
