// The process of a dry run: started by fork with the path of a DryRunSpec, it answers once and ends. It ends when its
// parent does; exit code 1 without an answer is a bug.
import { readFile } from 'node:fs/promises';
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

process.on('disconnect', () => process.exit(1));
try {
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
} catch {
  // Not allowed here; it only makes the others slower.
}
const spec = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as DryRunSpec;
const message = await answer(spec);
process.send!(message, undefined, undefined, error => process.exit(error ? 1 : 0));
