// Sends due webhook deliveries, with retries and exponential backoff for 72 hours. Deliveries are leased rows: if a worker is killed while
// sending, another one sends it again, so delivery is at least once.
import type pg from 'pg';
import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import type { Notifications } from '../store/notifications.ts';
import {
  type DueDelivery,
  takeDueDeliveries,
  WEBHOOKS_PAYLOAD,
  writeDeliveryResult,
} from '../store/webhook-deliveries.ts';
import { sendWebhook } from '../webhooks/send.ts';
import { openBell } from './bell.ts';
import { type Outage, openOutage } from './outage.ts';

export interface DeliverDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
  /** Notifications on QUEUE_CHANNEL. */
  readonly arrivals: Notifications;
}

/** Concurrent deliveries. */
const HANDS = 16;
/** Longer than the timeout of a delivery. */
const LEASE_SECONDS = 30;
/** Polling interval, for retries and lost notifications. */
const LOOK_MS = 2_000;

const FIRST_PAUSE_SECONDS = 5;
const LONGEST_PAUSE_SECONDS = 4 * 3600;
const GIVE_UP_SECONDS = 72 * 3600;

/** Doubles with each attempt, plus up to 20% jitter, so that deliveries that failed together are not retried together. */
export function pauseSeconds(attempts: number, random: number): number {
  const pause = Math.min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS);
  return pause * (1 + random / 5);
}

/** Returns the stop function, which cancels running deliveries; they are due again at once. */
export function deliverWebhooks(deps: DeliverDeps): () => Promise<void> {
  const stopping = new AbortController();
  const inHand = new Set<Promise<void>>();
  const bell = openBell();
  const outage = openOutage(deps.log, 'reading what webhooks are due');
  const unsubscribe = deps.arrivals.subscribe(WEBHOOKS_PAYLOAD, bell.ring);

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      const taken = await take(deps, HANDS - inHand.size, outage);
      for (const delivery of taken) {
        const sending = deliver(deps, delivery, stopping.signal).finally(() => {
          inHand.delete(sending);
          bell.ring();
        });
        inHand.add(sending);
      }
      if (taken.length === 0) await bell.wait(LOOK_MS, stopping.signal);
    }
    await Promise.all(inHand);
  }

  const ended = loop();
  return async () => {
    stopping.abort();
    unsubscribe();
    await ended;
  };
}

async function take({ pool }: DeliverDeps, limit: number, outage: Outage): Promise<DueDelivery[]> {
  if (limit === 0) return [];
  try {
    const due = await takeDueDeliveries(pool, { limit, leaseSeconds: LEASE_SECONDS });
    outage.over();
    return due;
  } catch (error) {
    outage.failed(error);
    return [];
  }
}

/** Never throws. If the result cannot be written, the delivery becomes due again. */
async function deliver(
  { pool, config, log }: DeliverDeps,
  due: DueDelivery,
  signal: AbortSignal,
): Promise<void> {
  const { id, attempts, url, secrets, eventId, eventType: type, createdAt, data } = due;
  const event = { id: eventId, type, createdAt, data };
  const answer = await sendWebhook({ id, url, secrets, event }, { allowed: config.webhookNetworks, signal });
  const { statusCode, error } = answer;
  const delivered = statusCode !== null && statusCode >= 200 && statusCode < 300;
  const stopped = statusCode === null && signal.aborted;
  log.info({ delivery: id, type, statusCode, reason: error, attempts }, 'a webhook was sent');
  await writeDeliveryResult(pool, {
    id,
    attempts,
    delivered,
    statusCode,
    error: stopped ? 'the worker was stopped while it was being sent' : error,
    retrySeconds: stopped ? 0 : pauseSeconds(attempts, Math.random()),
    giveUpSeconds: GIVE_UP_SECONDS,
  }).catch(cause => log.warn({ error: cause, delivery: id }, 'the result of a webhook was not written'));
}
