// The trainer process: starts it, receives its messages, pauses and kills it. The messages are defined in training/protocol.ts.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { computingEnvironment } from '../engine/environment.ts';
import type {
  GradeAnswers,
  TrainerCommand,
  TrainerEvent,
  TrainerQuestion,
  WorkerAnswer,
} from '../training/protocol.ts';

const TRAINER = join(import.meta.dirname, '../training/child.ts');
const KEPT_OUTPUT = 4000;

export interface Trainer {
  readonly pid: number | undefined;
  /** Messages in order; ends when the process has ended and all of them were delivered. */
  readonly events: AsyncIterable<TrainerEvent[]>;
  /** How it ended; of use once `events` has ended. */
  readonly ended: Promise<TrainerEnd>;
  tell(command: TrainerCommand): void;
  /** SIGKILL. */
  kill(): void;
}

export interface TrainerEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** The end of its stderr. */
  output: string;
}

export interface TrainerOptions {
  /** Replaces the trainer's module in tests. */
  module?: string | undefined;
  /** Grades answers for the trainer; if that rejects, the trainer is killed. */
  grade?: GradeAnswers | null;
}

/**
 * Runs in its own process group, so that Ctrl-C reaches only the worker, which tells the trainer. The trainer exits when its IPC channel
 * closes, however the worker ends.
 */
export function startTrainer(
  specPath: string,
  { module = TRAINER, grade = null }: TrainerOptions = {},
): Trainer {
  const child = fork(module, [specPath], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
    env: computingEnvironment(),
  });
  const output = keepOutput(child);
  const inbox = openInbox<TrainerEvent>();
  const kill = () => void child.kill('SIGKILL');
  const tell = (words: TrainerCommand | WorkerAnswer) => {
    if (child.connected) child.send(words, () => undefined); // one that has just died is no error
  };
  child.on('message', (message: TrainerEvent | TrainerQuestion) => {
    if (message.type !== 'grade') inbox.push(message);
    else void answer(message, grade).then(tell, kill);
  });
  const ended = untilGone(child).then(end => {
    inbox.close();
    return { ...end, output: output() };
  });
  return {
    pid: child.pid,
    events: inbox.batches,
    ended,
    tell,
    kill,
  };
}

async function answer(
  { question, answers }: TrainerQuestion,
  grade: GradeAnswers | null,
): Promise<WorkerAnswer> {
  if (!grade) throw new Error('a trainer asks for grades of a job without a grader');
  return { type: 'grades', question, grades: await grade(answers) };
}

/** Messages may arrive after the exit event, so the IPC channel has to be closed as well. */
async function untilGone(
  child: ChildProcess,
): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  const disconnected = once(child, 'disconnect').catch(() => undefined);
  const failed = new Promise<Error>(done => child.once('error', done));
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const first = await Promise.race([exited, failed]);
  if (first instanceof Error) return { code: null, signal: null };
  if (child.connected) await disconnected;
  return { code: first[0], signal: first[1] };
}

function keepOutput(child: ChildProcess): () => string {
  let kept = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    kept = (kept + text).slice(-KEPT_OUTPUT);
  });
  return () => kept.trim();
}

interface Inbox<T> {
  push(item: T): void;
  close(): void;
  /** Batches of all items that have arrived since the previous one. */
  batches: AsyncIterable<T[]>;
}

function openInbox<T>(): Inbox<T> {
  let waiting: T[] = [];
  let closed = false;
  let wake = Promise.withResolvers<void>();
  async function* batches(): AsyncGenerator<T[]> {
    for (;;) {
      if (waiting.length > 0) {
        const batch = waiting;
        waiting = [];
        yield batch;
      } else if (closed) {
        return;
      } else {
        await wake.promise;
        wake = Promise.withResolvers();
      }
    }
  }
  return {
    push(item) {
      waiting.push(item);
      wake.resolve();
    },
    close() {
      closed = true;
      wake.resolve();
    },
    batches: batches(),
  };
}
