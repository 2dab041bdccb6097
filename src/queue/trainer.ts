// The trainer's process: started, listened to, told to pause, killed. What it says is defined in training/protocol.ts.
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
  /** In order; ends when the process is gone and everything it said has been given. */
  readonly events: AsyncIterable<TrainerEvent[]>;
  /** How it ended; of use once `events` has ended. */
  readonly ended: Promise<TrainerEnd>;
  tell(command: TrainerCommand): void;
  /** At once, without a word. */
  kill(): void;
}

export interface TrainerEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** The last of what it wrote to its error output. */
  output: string;
}

export interface TrainerOptions {
  /** Another module than the real trainer, for tests. */
  module?: string | undefined;
  /** Answers its questions; it is killed where that fails. */
  grade?: GradeAnswers | null;
}

/**
 * A process in a group of its own: Ctrl-C is for the worker, which tells the trainer. It ends by itself when the
 * connection to the worker closes, however the worker ends.
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

/** Its last words may come after its exit: the connection must have been read to its end, too. */
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
  /** All that has come in since the last batch, together. */
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
