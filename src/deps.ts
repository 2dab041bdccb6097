// What the parts of a running service are handed. Built once, in main.ts (or by a test), and passed on.
import type pg from 'pg';
import type { Blobs } from './blobs/blobs.ts';
import type { Config } from './config.ts';
import type { Logger } from './log.ts';
import type { Queue } from './queue/queue.ts';
import type { GenerationClient } from './serving/client.ts';
import type { Notifications } from './store/notifications.ts';

export interface Deps {
  readonly config: Config;
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly queue: Queue;
  /** Hears of new events of jobs (channel `anneal_events`). */
  readonly events: Notifications;
  readonly generation: GenerationClient;
}
