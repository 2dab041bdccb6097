// Recognizes errors of a full disk or an exhausted quota, also as a cause. Does not inspect disks.

export const DISK_FULL_CODES = ['ENOSPC', 'EDQUOT'];

export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return DISK_FULL_CODES.includes((error as NodeJS.ErrnoException).code ?? '') || isDiskFull(error.cause);
}
