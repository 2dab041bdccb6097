// Wakes a loop that waits for work.
import { setTimeout as sleep } from 'node:timers/promises';

export interface Bell {
  ring(): void;
  /** Resolves when it rings, after the timeout, or when the signal is aborted. A ring before the call is not lost. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void>;
}

export function openBell(): Bell {
  let rung = Promise.withResolvers<void>();
  return {
    ring: () => rung.resolve(),
    async wait(timeoutMs, signal) {
      const timer = new AbortController();
      const timeout = sleep(timeoutMs, undefined, { signal: AbortSignal.any([signal, timer.signal]) });
      await Promise.race([rung.promise, timeout.catch(() => undefined)]);
      timer.abort();
      rung = Promise.withResolvers();
    },
  };
}
