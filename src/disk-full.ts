// Whether an error says that a disk is full, or a quota of it, whatever it is wrapped in. It looks at no disk.

const CODES = ['ENOSPC', 'EDQUOT'];

export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return CODES.includes((error as NodeJS.ErrnoException).code ?? '') || isDiskFull(error.cause);
}
