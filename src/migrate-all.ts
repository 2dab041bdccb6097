// Migrates a database: our tables, then those of the queue.
import { migrateQueue } from './queue/queue.ts';
import { migrate } from './store/migrate.ts';

/** Returns the names of the applied migrations. */
export async function migrateAll(databaseUrl: string): Promise<string[]> {
  const applied = await migrate(databaseUrl);
  await migrateQueue(databaseUrl);
  return applied;
}
