// Runs a process of this program beside us: starts it, starts it again when it dies, ends it. What it does is not known here.
import { type ChildProcess, fork } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

const BACKOFF_MS = { first: 500, most: 30_000 };
/** One that ran this long had started well: the next wait is short again. */
const HEALTHY_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;

export interface SupervisedProcess {
  readonly name: string;
  stop(): Promise<void>;
}

export interface ProcessOptions {
  name: string;
  /** Program and its arguments. */
  module: string;
  args: string[];
  env: Record<string, string | undefined>;
  /** Of Node itself. */
  nodeFlags: readonly string[];
  /** Lines of its output and error output. */
  onLine(line: string): void;
  /** Told when it died and is started again. */
  onTrouble(message: string): void;
}

/** What a process says to us once it is ready to work. */
export interface ReadyMessage {
  type: 'ready';
  address?: string;
}

/** Resolves once the process is ready; rejects when it ends before that the first time. */
export async function superviseProcess(
  options: ProcessOptions,
): Promise<SupervisedProcess & { ready: ReadyMessage }> {
  const first = launch(options);
  const ready = await first.ready;
  const state = { stopping: new AbortController(), current: first };
  const keeping = keepRunning(options, state);
  return {
    name: options.name,
    ready,
    async stop() {
      state.stopping.abort();
      await endProcess(state.current);
      await keeping;
    },
  };
}

interface Launched {
  child: ChildProcess;
  startedAt: number;
  ready: Promise<ReadyMessage>;
  exit: Promise<string>;
}

async function keepRunning(
  options: ProcessOptions,
  state: { stopping: AbortController; current: Launched },
): Promise<void> {
  const { signal } = state.stopping;
  let delayMs = BACKOFF_MS.first;
  for (;;) {
    const reason = await state.current.exit;
    if (signal.aborted) return;
    if (Date.now() - state.current.startedAt > HEALTHY_MS) delayMs = BACKOFF_MS.first;
    options.onTrouble(`${options.name} ended (${reason}); starting it again in ${delayMs / 1000} s`);
    await sleep(delayMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    delayMs = Math.min(2 * delayMs, BACKOFF_MS.most);
    state.current = launch(options);
    state.current.ready.catch(() => undefined); // its end is seen above
  }
}

/** In a process group of its own: Ctrl-C in a terminal is for us, and we tell it. It ends by itself when we are gone. */
function launch({ module, args, env, nodeFlags, onLine, name }: ProcessOptions): Launched {
  const child = fork(module, args, {
    env,
    execArgv: [...process.execArgv, ...nodeFlags],
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const exit = new Promise<string>(done => {
    child.once('error', error => done(error.message));
    child.once('exit', (code, signal) => {
      signalGroup(child, 'SIGKILL'); // what it may have left behind
      done(signal ?? `code ${code}`);
    });
  });
  const ready = new Promise<ReadyMessage>((done, fail) => {
    child.on('message', message => {
      if ((message as ReadyMessage).type === 'ready') done(message as ReadyMessage);
    });
    void exit.then(reason => fail(new Error(`${name} did not start (${reason})`)));
  });
  for (const stream of [child.stdout!, child.stderr!]) readLines(stream, onLine);
  return { child, startedAt: Date.now(), ready, exit };
}

async function endProcess({ child, exit }: Launched): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), STOP_TIMEOUT_MS);
  await exit;
  clearTimeout(timer);
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || process.platform === 'win32') return void child.kill(signal);
  try {
    process.kill(-child.pid, signal);
  } catch {
    // nobody is left in it
  }
}

function readLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  });
  stream.on('end', () => {
    if (rest) onLine(rest);
  });
}
