// Wakes a loop that waits for work: rung by whoever hears of some.
import { setTimeout as sleep } from 'node:timers/promises';

export interface Bell {
  ring(): void;
  /** Until it rings, the time is over, or the signal aborts. Rung before it is waited for, it is heard all the same. */
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
