// A child process that opens an engine as training does, reports whether it works, and exits.
import { readFile } from 'node:fs/promises';
import { type EngineOptions, openEngine } from './engine.ts';

export interface Probed {
  /** Why the engine cannot be used here; null if it can. */
  readonly refused: string | null;
}

process.on('disconnect', () => process.exit(1));
const options = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as EngineOptions;
const refused = await openEngine(options).then(
  () => null,
  error => (error as Error).message,
);
process.send!({ refused } satisfies Probed, undefined, undefined, error => process.exit(error ? 1 : 0));
