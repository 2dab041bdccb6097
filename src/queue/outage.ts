// What fails again and again while a database or an object store is away: said when it begins, and with a count when it is over.
import type { Logger } from '../log.ts';

export interface Outage {
  failed(error: unknown): void;
  /** It works. Says nothing when it always did. */
  over(): void;
}

/** `what` is being done: `reading the queue`. */
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
