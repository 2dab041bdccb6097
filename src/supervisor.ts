// Supervises a child process of this program: starts it, restarts it with backoff when it dies, and stops it.
import { type ChildProcess, fork } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

const BACKOFF_MS = { first: 500, most: 30_000 };
/** After running this long, a process is considered healthy and the backoff is reset. */
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
  /** Flags of Node. */
  nodeFlags: readonly string[];
  /** Called with each line of stdout and stderr. */
  onLine(line: string): void;
  /** Called when it has died and will be restarted. */
  onTrouble(message: string): void;
}

/** The IPC message of a process that is ready. */
export interface ReadyMessage {
  type: 'ready';
  address?: string;
}

/** Resolves once the process is ready; rejects when its first start fails. */
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
    state.current.ready.catch(() => undefined); // handled by its exit above
  }
}

/** Runs in its own process group, so that Ctrl-C reaches only this process, which stops it. It exits by itself when its IPC channel closes. */
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
      signalGroup(child, 'SIGKILL'); // processes that it may have left behind
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
    // the group is empty
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
