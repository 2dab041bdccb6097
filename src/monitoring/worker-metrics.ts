// Prometheus metrics of a worker: steps and ends of its training runs.
import { Counter, Gauge, Histogram } from '@prometheus-io/client';
import type { TrainerEvent } from '../training/protocol.ts';
import type { Monitoring } from './monitoring.ts';

export interface TrainingMetrics {
  /** Passes the trainer's messages on and counts them. */
  follow(events: AsyncIterable<TrainerEvent[]>, run: TrainingRun): AsyncIterable<TrainerEvent[]>;
  ended(how: string): void;
}

export interface TrainingRun {
  jobId: string;
  attempt: number;
}

/** Notifies all of them. Undefined when there are none. */
export function combineMetrics(all: readonly TrainingMetrics[]): TrainingMetrics | undefined {
  if (all.length === 0) return undefined;
  return {
    follow: (events, run) => all.reduce((followed, one) => one.follow(followed, run), events),
    ended(how) {
      for (const one of all) one.ended(how);
    },
  };
}

/** In seconds: from a tiny model to a large one on a slow machine. */
const STEP_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250];

export function addTrainingMetrics({ registry }: Monitoring): TrainingMetrics {
  const registers = [registry];
  const running = new Gauge({ name: 'anneal_trainings_running', help: 'Trainers at work.', registers });
  const seconds = new Histogram({
    name: 'anneal_training_step_seconds',
    help: 'Time that a step of training took.',
    buckets: STEP_SECONDS,
    registers,
  });
  const tokens = new Counter({
    name: 'anneal_trained_tokens_total',
    help: 'Tokens with a loss that were trained on, those too that were trained on again after a crash.',
    registers,
  });
  const ends = new Counter({
    name: 'anneal_runs_ended_total',
    help: 'Runs of jobs by their end; a job that was interrupted has several.',
    labelNames: ['end'],
    registers,
  });
  return {
    async *follow(events) {
      running.inc();
      try {
        let before: number | null = null; // of a resumed run, the tokens of the first step are unknown
        for await (const batch of events) {
          for (const event of batch) {
            if (event.type !== 'step') continue;
            seconds.observe(event.seconds);
            if (event.metrics.step === 1) before = 0;
            if (before !== null) tokens.inc(event.trainedTokens - before);
            before = event.trainedTokens;
          }
          yield batch;
        }
      } finally {
        running.dec();
      }
    },
    ended: end => ends.inc({ end }),
  };
}
