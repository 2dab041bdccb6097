// Messages for a trainer that crashed: the likely cause, and what to change.
import { DISK_FULL_CODES, isDiskFull } from '../disk-full.ts';
import type { TrainerEnd } from './trainer.ts';

const OUT_OF_MEMORY = 'The training process was killed, most likely because the machine ran out of memory';

const DISK_FULL = 'The worker has no disk space left';

const advices: Record<string, string> = {
  [OUT_OF_MEMORY]:
    'Lower max_length, batch_size or rank in the hyperparameters of the method, use adapter "lora", or give the worker more memory.',
  [DISK_FULL]: 'Free space where its ANNEAL_DATA_DIR is.',
};

const signals: Partial<Record<NodeJS.Signals, string>> = {
  SIGKILL: OUT_OF_MEMORY,
  SIGSEGV: 'The training process crashed in native code (SIGSEGV)',
  SIGABRT: 'The training process aborted (SIGABRT)',
  SIGBUS: 'The training process crashed reading its files (SIGBUS), perhaps because the disk is full',
};

/** Does not quote the trainer's output, which may contain training data; that is only logged. */
export function crashReason({ code, signal, output }: TrainerEnd): string {
  if (/JavaScript heap out of memory|bad_alloc|Failed to allocate memory/i.test(output)) return OUT_OF_MEMORY;
  if (DISK_FULL_CODES.some(code => output.includes(code))) return DISK_FULL;
  if (signal) return signals[signal] ?? `The training process was ended by ${signal}`;
  return `The training process ended unexpectedly with exit code ${code}`;
}

/** For an error in the worker's own part of a run. */
export function errorReason(error: unknown): string {
  return isDiskFull(error) ? DISK_FULL : 'The run was broken off by an internal error';
}

export function crashMessage(reason: string, crashes: number): string {
  const advice = advices[reason] ?? "The worker's log says more.";
  return `${reason}, ${crashes} times in a row without reaching a checkpoint. ${advice}`;
}
