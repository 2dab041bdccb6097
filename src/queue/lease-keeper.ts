// Renews the lease on a row while it is worked on, and watches the row's status for cancel, pause and resume. Notifications are only hints
// to read the status.
import type pg from 'pg';
import type { Logger } from '../log.ts';
import {
  extendLease,
  hasEnded,
  JobEnded,
  type Lease,
  type LeasedTable,
  LeaseLost,
  type StatusOf,
} from '../store/leases.ts';
import type { Notifications } from '../store/notifications.ts';
import { openOutage } from './outage.ts';

export interface LeaseKeeper<Status = StatusOf['jobs']> {
  /** Aborted with LeaseLost or JobEnded when the work must stop. */
  readonly signal: AbortSignal;
  /** Sets the one listener, which is called with the status after every heartbeat. */
  onStatus(listener: (status: Status) => void): void;
  close(): void;
}

export interface KeeperDeps {
  readonly pool: pg.Pool;
  readonly log: Logger;
  /** Notifications on CONTROL_CHANNEL. */
  readonly control: Notifications;
}

/** Renews three times per lease. An outage of the database is waited for; fencing prevents writes after the lease was lost. */
export function keepLease<Table extends LeasedTable>(
  { pool, log, control }: KeeperDeps,
  lease: Lease<Table>,
): LeaseKeeper<StatusOf[Table]> {
  const abort = new AbortController();
  let listener: (status: StatusOf[Table]) => void = () => undefined;
  let looking = false;
  let lookAgain = false;
  const outage = openOutage(log, 'a heartbeat', { leased: lease.id });

  async function look(): Promise<void> {
    if (looking) {
      lookAgain = true;
      return;
    }
    looking = true;
    do {
      lookAgain = false;
      await extendLease(pool, lease).then(judge, outage.failed);
    } while (lookAgain);
    looking = false;
  }

  function judge(status: StatusOf[Table] | null): void {
    outage.over();
    if (abort.signal.aborted) return;
    if (status === null) abort.abort(new LeaseLost(lease));
    else if (hasEnded(lease, status)) abort.abort(new JobEnded(lease, status));
    else listener(status);
  }

  const timer = setInterval(() => void look(), (lease.leaseSeconds * 1000) / 3);
  const unsubscribe = control.subscribe(lease.id, () => void look());
  return {
    signal: abort.signal,
    onStatus(hear) {
      listener = hear;
      void look();
    },
    close() {
      clearInterval(timer);
      unsubscribe();
    },
  };
}
