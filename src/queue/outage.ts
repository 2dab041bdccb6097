// Logs an outage of the database or the object store once when it begins, and once when it is over, with the number of failures.
import type { Logger } from '../log.ts';

export interface Outage {
  failed(error: unknown): void;
  /** Logs the end of an outage, if there was one. */
  over(): void;
}

/** `what` fails, for the log: `reading the queue`. */
export function openOutage(log: Logger, what: string, about: object = {}): Outage {
  let failures = 0;
  let since = 0;
  return {
    failed(error) {
      failures += 1;
      if (failures > 1) return;
      since = performance.now();
      log.warn({ ...about, error: (error as Error).message }, `${what} failed; it is tried until it works`);
    },
    over() {
      if (failures === 0) return;
      const seconds = Math.round((performance.now() - since) / 1000);
      log.info({ ...about, failures, seconds }, `${what} works again`);
      failures = 0;
    },
  };
}
