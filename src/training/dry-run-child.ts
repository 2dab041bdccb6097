// The dry run process: started by fork with the path of a DryRunSpec, it answers once and exits. It exits when its
// parent does; exit code 1 without an answer is a bug.
import { readFile, writeFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { ModelError } from '../models/model-error.ts';
import { type DryRunAnswer, type DryRunSpec, dryRun } from './dry-run.ts';

async function answer(spec: DryRunSpec): Promise<DryRunAnswer> {
  try {
    return { type: 'done', report: await dryRun(spec) };
  } catch (error) {
    if (error instanceof ModelError) return { type: 'invalid_model', message: error.message };
    throw error;
  }
}

/** The api has priority over a dry run, in CPU time and memory. */
async function stepBack(): Promise<void> {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
    await writeFile('/proc/self/oom_score_adj', '1000'); // of Linux: this process is ended before all others
  } catch {
    // Not permitted here, or not Linux.
  }
}

process.on('disconnect', () => process.exit(1));
await stepBack();
const spec = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as DryRunSpec;
const message = await answer(spec);
process.send!(message, undefined, undefined, error => process.exit(error ? 1 : 0));
