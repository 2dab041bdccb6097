// What a command of the CLI is handed by main.ts: how it is run to its end, and the database for as long as it needs it.
import type pg from 'pg';
import type { Config } from '../config.ts';

export interface CommandContext {
  /** Runs a command, says what went wrong, and ends the process. */
  run(command: (config: Config) => Promise<void>): Promise<never>;
  /** A migrated database: the one that is named, the one of a running `start`, or one that is started for this. */
  withDatabase(config: Config, work: (database: { pool: pg.Pool }) => Promise<void>): Promise<void>;
}
