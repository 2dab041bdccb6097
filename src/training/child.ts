// The trainer process: started by fork with the path of a spec, it runs it, sends TrainerEvents, receives
// TrainerCommands, and asks its parent for grades. It exits when its parent does. Exit code 0 after `finished`,
// `stopped` or `failed`; 1 after a bug, reported as `server_error`, or when the disk is full, which is for its parent to report.
import { readFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { isDiskFull } from '../disk-full.ts';
import { openGrading } from './grading.ts';
import type { TrainerCommand, TrainerEvent, TrainerQuestion, TrainSpec, WorkerAnswer } from './protocol.ts';
import { runTraining } from './run.ts';

const SERVER_ERROR: TrainerEvent = {
  type: 'failed',
  code: 'server_error',
  param: null,
  message: 'The job failed due to an internal error',
};

/** Resolves when the event has been sent, so that nothing is lost when the process exits. */
function send(event: TrainerEvent | TrainerQuestion): Promise<void> {
  return new Promise((resolve, reject) => {
    if (!process.send) throw new Error('the trainer is started by fork');
    process.send(event, undefined, undefined, error => (error ? reject(error) : resolve()));
  });
}

/** Serving and the api have priority. */
function lowerPriority(): void {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // Not permitted here; then the others are slower.
  }
}

async function main(specFile: string): Promise<number> {
  const stop = new AbortController();
  const grading = openGrading(send);
  process.on('message', (message: TrainerCommand | WorkerAnswer) => {
    if (message.type === 'grades') grading.hear(message);
    else stop.abort(message);
  });
  process.on('disconnect', () => process.exit(1));
  lowerPriority();
  try {
    const spec = JSON.parse(await readFile(specFile, 'utf8')) as TrainSpec;
    await runTraining(spec, send, stop.signal, grading.grade);
    return 0;
  } catch (error) {
    console.error(error);
    if (!isDiskFull(error)) await send(SERVER_ERROR);
    return 1;
  }
}

process.exit(await main(process.argv[2]!));
