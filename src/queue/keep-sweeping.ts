// When a worker sweeps: three times per lease, but not right after an outage of the database. What a sweep does is in sweep.ts.
import type { Logger } from '../log.ts';

export interface Sweeping {
  readonly leaseSeconds: number;
  readonly log: Logger;
  /** Fails while the database is away. */
  beat(): Promise<void>;
  sweep(): Promise<void>;
}

/**
 * After a failure the database has to answer for the time of a lease before the next sweep: during the outage the live runners could not
 * renew their leases, and need that time to do so. Returns what stops it, and waits for the sweep that runs.
 */
export function keepSweeping({ leaseSeconds, log, beat, sweep }: Sweeping): () => Promise<void> {
  const leaseMs = leaseSeconds * 1000;
  let away = false;
  let quietUntil = 0;
  let running: Promise<void> | null = null;

  async function look(): Promise<void> {
    await beat();
    if (away) quietUntil = Date.now() + leaseMs;
    away = false;
    if (Date.now() >= quietUntil) await sweep();
  }

  function lookUnlessLooking(): void {
    running ??= look()
      .catch(error => {
        away = true;
        log.warn({ error: (error as Error).message }, 'a sweep failed');
      })
      .finally(() => {
        running = null;
      });
  }

  const timer = setInterval(lookUnlessLooking, leaseMs / 3);
  lookUnlessLooking();
  return async () => {
    clearInterval(timer);
    await running;
  };
}
