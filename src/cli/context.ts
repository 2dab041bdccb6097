// What main.ts passes to CLI commands: a runner with error handling, and a database connection for the duration of the command.
import type pg from 'pg';
import type { Config } from '../config.ts';

export interface CommandContext {
  /** Runs a command, prints its error if it fails, and exits the process. */
  run(command: (config: Config) => Promise<void>): Promise<never>;
  /** A migrated database: the configured one, that of a running `start`, or one started for the command. */
  withDatabase(config: Config, work: (database: { pool: pg.Pool }) => Promise<void>): Promise<void>;
}
