// Periodic clean-up by the workers, every minute and every night. A task that fails does not stop the others and is retried at the next run.
// Recovery of lost jobs, several times a minute, is in sweep.ts.
import type pg from 'pg';
import type { Blobs } from '../blobs/blobs.ts';
import type { Logger } from '../log.ts';
import { removeExpiredKeys } from '../store/idempotency.ts';
import { forgetDeletedPlaces } from '../store/pages.ts';
import { coarsenUsage } from '../store/usage.ts';
import { removeOldDeliveries } from '../store/webhook-deliveries.ts';
import { expireFiles } from './expire-files.ts';
import { cleanUploads } from './expire-uploads.ts';
import { removeModels } from './remove-models.ts';
import { sweepObjects } from './sweep-objects.ts';

export interface HouseDeps {
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly log: Logger;
}

type Chores = Readonly<Record<string, (deps: HouseDeps, signal: AbortSignal) => Promise<unknown>>>;

/** Retention of the log of webhook deliveries. */
const KEPT_DELIVERY_DAYS = 30;
/** Usage is kept by the minute for this long, and by the hour beyond. */
const KEPT_MINUTES_DAYS = 60;
const DAY_MS = 86_400_000;

export const everyMinute: Chores = {
  files: expireFiles,
  uploads: cleanUploads,
  idempotency_keys: ({ pool }) => removeExpiredKeys(pool),
  webhook_deliveries: ({ pool }) => removeOldDeliveries(pool, KEPT_DELIVERY_DAYS),
  deleted_places: ({ pool }) => forgetDeletedPlaces(pool),
  models: removeModels,
};

export const everyNight: Chores = {
  usage: ({ pool }) => coarsenUsage(pool, new Date(Date.now() - KEPT_MINUTES_DAYS * DAY_MS)),
  async objects(deps, signal) {
    const removed = await sweepObjects(deps, { signal });
    if (removed > 0) deps.log.info({ removed }, 'objects without a name were removed');
  },
};

/** Never throws. When `signal` is aborted, it ends after the current deletion. */
export async function keepHouse(chores: Chores, deps: HouseDeps, signal: AbortSignal): Promise<void> {
  for (const [what, chore] of Object.entries(chores)) {
    if (signal.aborted) return;
    await chore(deps, signal).catch(error =>
      deps.log.warn({ error, what }, 'something was not cleared away'),
    );
  }
}
