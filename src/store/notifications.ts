// LISTEN: one connection per channel and process, which reconnects when it is lost. Notifications are hints: after a reconnect all
// subscribers are called, because some may have been missed.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from '../log.ts';

/** Channel that wakes workers; the payload names the kind of work. They also poll every few seconds. */
export const QUEUE_CHANNEL = 'anneal_queue';

const RETRY_MS = { first: 100, most: 5000 };
/** Interval of a probe query, which detects connections that a firewall dropped silently. */
const PROBE_MS = 30_000;

export interface Notifications {
  /** Calls the listener for each notification with this payload (`null`: any), and after a reconnect. Returns the unsubscribe function. */
  subscribe(payload: string | null, listener: (payload: string | null) => void): () => void;
  close(): Promise<void>;
}

export async function openNotifications(
  databaseUrl: string,
  channel: string,
  log: Logger,
): Promise<Notifications> {
  const notifications = new Listener(databaseUrl, channel, log);
  await notifications.open();
  return notifications;
}

class Listener implements Notifications {
  private readonly databaseUrl: string;
  private readonly channel: string;
  private readonly log: Logger;
  private readonly subscriptions = new Set<{
    payload: string | null;
    listener: (payload: string | null) => void;
  }>();
  private readonly closing = new AbortController();
  private client: pg.Client | null = null;
  private probe: NodeJS.Timeout | undefined;

  constructor(databaseUrl: string, channel: string, log: Logger) {
    this.databaseUrl = databaseUrl;
    this.channel = channel;
    this.log = log;
  }

  subscribe(payload: string | null, listener: (payload: string | null) => void): () => void {
    const subscription = { payload, listener };
    this.subscriptions.add(subscription);
    return () => void this.subscriptions.delete(subscription);
  }

  async open(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.databaseUrl,
      application_name: `anneal listen ${this.channel}`,
      connectionTimeoutMillis: 10_000,
      query_timeout: 10_000,
      keepAlive: true,
    });
    client.on('error', () => undefined); // `end` follows
    client.on('notification', ({ payload }) => this.tell(payload ?? ''));
    try {
      await client.connect();
      await client.query(`listen ${pg.escapeIdentifier(this.channel)}`);
      this.closing.signal.throwIfAborted(); // closed while this was under way
    } catch (error) {
      await client.end().catch(() => undefined);
      throw error;
    }
    client.on('end', () => void this.reopen());
    this.client = client;
    this.probe = setInterval(
      () => void client.query('select 1').catch(() => client.end().catch(() => undefined)),
      PROBE_MS,
    );
    this.probe.unref();
  }

  async close(): Promise<void> {
    this.closing.abort();
    clearInterval(this.probe);
    await this.client?.end().catch(() => undefined);
  }

  private async reopen(): Promise<void> {
    clearInterval(this.probe);
    if (this.closing.signal.aborted) return;
    this.log.warn({ channel: this.channel }, 'the listening database session was lost');
    for (
      let delay = RETRY_MS.first;
      !this.closing.signal.aborted;
      delay = Math.min(2 * delay, RETRY_MS.most)
    ) {
      await sleep(delay, undefined, { ref: false });
      const opened = await this.open().then(
        () => true,
        () => false,
      );
      if (!opened) continue;
      this.tell(null);
      return;
    }
  }

  private tell(payload: string | null): void {
    for (const subscription of this.subscriptions) {
      if (payload === null || subscription.payload === null || subscription.payload === payload)
        subscription.listener(payload);
    }
  }
}
