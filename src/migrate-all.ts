// Everything that a database needs before the service runs on it: our tables, then the queue's.
import { migrateQueue } from './queue/queue.ts';
import { migrate } from './store/migrate.ts';

/** Returns the names of our migrations that were applied. */
export async function migrateAll(databaseUrl: string): Promise<string[]> {
  const applied = await migrate(databaseUrl);
  await migrateQueue(databaseUrl);
  return applied;
}
