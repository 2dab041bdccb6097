// A task small enough for a random model, its files in a folder of their own, and runs on it with all their events.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TrainerCommand, TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';
import { runTraining } from '../../src/training/run.ts';

const ANSWERS = ['red', 'green', 'blue'];

/** `shift`: answers that are wrong. */
const line = (index: number, shift: number) =>
  JSON.stringify({
    messages: [
      { role: 'user', content: `${ANSWERS[index % 3]![0]} ${'abcdefgh'.slice(0, index % 7)}` },
      { role: 'assistant', content: ANSWERS[(index + shift) % 3] },
    ],
  });

export const goldenModel = (name: string) => join(import.meta.dirname, '../golden', name);

export function writeLines(file: string, count: number, first = 0, shift = 0): string {
  writeFileSync(file, Array.from({ length: count }, (_, i) => `${line(first + i, shift)}\n`).join(''));
  return file;
}

export function toySpec(changes: Partial<TrainSpec> = {}, examples = 24): TrainSpec {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-training-'));
  return {
    jobId: 'ftjob-toy',
    modelDirectory: goldenModel('llama-tiny'),
    adapterDirectory: null,
    trainingFile: writeLines(join(folder, 'training.jsonl'), examples),
    validationFile: writeLines(join(folder, 'validation.jsonl'), 6, 100),
    workDirectory: join(folder, 'work'),
    resumeDirectory: null,
    method: { type: 'supervised' },
    seed: 7,
    engine: 'cpu',
    device: 'cpu',
    threads: 1,
    checkpointSeconds: 0,
    memoryBudgetBytes: null,
    ...changes,
    hyperparameters: { n_epochs: 2, batch_size: 6, rank: 4, ...changes.hyperparameters },
  };
}

export type EventOf<Type extends TrainerEvent['type']> = Extract<TrainerEvent, { type: Type }>;

export const eventsOf = <Type extends TrainerEvent['type']>(events: readonly TrainerEvent[], type: Type) =>
  events.filter((event): event is EventOf<Type> => event.type === type);

/** Runs to the end, or until `stopAt` gives a command for an event. */
export async function collect(
  spec: TrainSpec,
  stopAt: (event: TrainerEvent) => TrainerCommand | null = () => null,
): Promise<TrainerEvent[]> {
  const events: TrainerEvent[] = [];
  const stop = new AbortController();
  await runTraining(
    spec,
    event => {
      events.push(event);
      const command = stopAt(event);
      if (command) stop.abort(command);
    },
    stop.signal,
  );
  return events;
}
