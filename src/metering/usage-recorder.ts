// Aggregates the usage of requests in memory and writes it every second, so that no request waits for it. A killed process loses up to a
// second of usage. Rate limits are checked elsewhere (admission.ts).
import type pg from 'pg';
import type { Logger } from '../log.ts';
import { inTransaction } from '../store/database.ts';
import { ALL_MODELS, type Settlement, settleTokens } from '../store/rate-limits.ts';
import {
  addUsage,
  type UsageCounts,
  type UsageKind,
  type UsageLabels,
  type UsageRow,
} from '../store/usage.ts';

export interface UsageRecorder {
  /** Returns at once. */
  record(labels: UsageLabels, counts: UsageCounts): void;
  /** The difference between the actual tokens of a request and those taken at its admission; may be negative. */
  settle(projectId: string, limitedModel: string, tokens: number): void;
  /** Totals since it was opened, written or not. */
  totals(): ({ kind: UsageKind } & UsageCounts)[];
  /** Writes the pending usage. If that throws, the usage stays pending. */
  flush(): Promise<void>;
  /** Writes what is pending, and stops. */
  close(): Promise<void>;
}

export interface RecorderOptions {
  pool: pg.Pool;
  log: Logger;
  intervalMs?: number;
}

const INTERVAL_MS = 1000;
const MINUTE_MS = 60_000;

interface Waiting {
  usage: Map<string, UsageRow>;
  settlements: Map<string, Settlement>;
}

const nothing = (): Waiting => ({ usage: new Map(), settlements: new Map() });

export function openUsageRecorder(options: RecorderOptions): UsageRecorder {
  return new BatchedRecorder(options);
}

class BatchedRecorder implements UsageRecorder {
  readonly #options: RecorderOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #totals = new Map<UsageKind, UsageCounts>();
  #waiting = nothing();
  #writing: Promise<void> | null = null;

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      if (this.#writing) return; // the database is slow or unavailable; what is pending stays one write
      this.flush().catch(error => options.log.warn({ error }, 'usage was not written; it will be retried'));
    }, options.intervalMs ?? INTERVAL_MS);
    this.#timer.unref();
  }

  record(labels: UsageLabels, counts: UsageCounts): void {
    const minute = new Date(Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS);
    addRow(this.#waiting, { ...labels, ...counts, minute });
    const total = this.#totals.get(labels.kind);
    if (total) addCounts(total, counts);
    else this.#totals.set(labels.kind, { ...counts });
  }

  totals(): ({ kind: UsageKind } & UsageCounts)[] {
    return [...this.#totals].map(([kind, counts]) => ({ kind, ...counts }));
  }

  settle(projectId: string, model: string, tokens: number): void {
    for (const limited of [ALL_MODELS, model])
      addSettlement(this.#waiting, { projectId, model: limited, tokens });
  }

  /** Writes are sequential, so that a failed one is pending again before the next begins. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing.catch(() => undefined);
    this.#writing = this.#write().finally(() => {
      this.#writing = null;
    });
    await this.#writing;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }

  async #write(): Promise<void> {
    const taken = this.#waiting;
    if (taken.usage.size === 0 && taken.settlements.size === 0) return;
    this.#waiting = nothing();
    try {
      await inTransaction(this.#options.pool, async tx => {
        if (taken.usage.size > 0) await addUsage(tx, [...taken.usage.values()]);
        if (taken.settlements.size > 0) await settleTokens(tx, [...taken.settlements.values()]);
      });
    } catch (error) {
      for (const row of taken.usage.values()) addRow(this.#waiting, row);
      for (const settlement of taken.settlements.values()) addSettlement(this.#waiting, settlement);
      throw error;
    }
  }
}

function addRow({ usage }: Waiting, row: UsageRow): void {
  const { minute, kind, projectId, apiKeyId, model, batch } = row;
  const key = JSON.stringify([minute.getTime(), kind, projectId, apiKeyId, model, batch]);
  const sum = usage.get(key);
  if (sum) addCounts(sum, row);
  else usage.set(key, { ...row });
}

function addCounts(sum: UsageCounts, counts: UsageCounts): void {
  for (const name of ['requests', 'inputTokens', 'cachedTokens', 'outputTokens'] as const)
    sum[name] += counts[name];
}

function addSettlement({ settlements }: Waiting, settlement: Settlement): void {
  const key = JSON.stringify([settlement.projectId, settlement.model]);
  const sum = settlements.get(key);
  if (sum) sum.tokens += settlement.tokens;
  else settlements.set(key, { ...settlement });
}
