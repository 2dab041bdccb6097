// Parent side of a Python grader's process: starts, queries, monitors and kills it. All its output is untrusted.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import type { Confinement } from './confinement.ts';
import { type PythonAnswer, type PythonQuestion, readAnswer } from './protocol.ts';

/** Why there is no result. */
export type PythonFailure = 'timeout' | 'memory_limit' | 'output_limit' | 'crash';

export type PythonOutcome =
  | Exclude<PythonAnswer, { type: 'ready' }>
  | { type: 'failed'; reason: PythonFailure; message: string };

export interface PythonProcess {
  /** One question at a time. The process ends if a question fails or is aborted. Throws the signal's reason. */
  ask(question: PythonQuestion, signal: AbortSignal): Promise<PythonOutcome>;
  readonly alive: boolean;
  /** Resolves when the process has exited. */
  kill(): Promise<void>;
}

export interface ProcessLimits {
  seconds: number;
  memoryBytes: number;
}

const START_MS = 60_000;
const WATCH_MS = 100;
/** Memory of Node and Pyodide beyond Python's heap. */
const OVERHEAD_BYTES = 512 * 2 ** 20;
/** Answers are short lines and prints are discarded, so more output is an attack or a bug. */
const MAX_OUTPUT_BYTES = 64 * 1024;
const PAGE_BYTES = 4096;

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

export function startPython(confinement: Confinement, limits: ProcessLimits): PythonProcess {
  return new ConfinedPython(confinement, limits);
}

class ConfinedPython implements PythonProcess {
  readonly #limits: ProcessLimits;
  readonly #child: Child;
  readonly #gone: Promise<void>;
  readonly #ready = Promise.withResolvers<PythonOutcome | null>();
  #settle: ((outcome: PythonOutcome | null) => void) | null;
  #failure: PythonFailure | null = null;
  #received = '';
  #errors = '';
  alive = true;

  constructor(confinement: Confinement, limits: ProcessLimits) {
    this.#limits = limits;
    this.#settle = this.#ready.resolve;
    this.#child = spawn(confinement.command, confinement.args, {
      cwd: '/',
      env: {},
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    });
    this.#child.stdin.on('error', () => undefined); // the exit is handled below
    this.#child.stdout.setEncoding('utf8').on('data', text => this.#read(text));
    this.#child.stderr.setEncoding('utf8').on('data', text => this.#readError(text));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    const end = () => {
      resolve();
      this.#end();
    };
    this.#child.once('error', end);
    this.#child.once('close', end);
    const starting = setTimeout(() => this.#fail('timeout'), START_MS);
    void this.#ready.promise.then(() => clearTimeout(starting));
    this.#watchMemory(confinement.wrapped);
  }

  async ask(question: PythonQuestion, signal: AbortSignal): Promise<PythonOutcome> {
    const abort = () => void this.kill();
    signal.addEventListener('abort', abort, { once: true });
    try {
      signal.throwIfAborted();
      const outcome = (await this.#ready.promise) ?? (await this.#exchange(question));
      signal.throwIfAborted();
      return outcome;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#gone;
  }

  #exchange(question: PythonQuestion): Promise<PythonOutcome> {
    if (!this.alive) return Promise.resolve(this.#describe());
    const { promise, resolve } = Promise.withResolvers<PythonOutcome | null>();
    const timer = setTimeout(() => this.#fail('timeout'), this.#limits.seconds * 1000);
    this.#settle = resolve;
    this.#received = '';
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    return promise.then(outcome => {
      clearTimeout(timer);
      return outcome ?? this.#describe();
    });
  }

  #read(text: string): void {
    this.#received += text;
    const end = this.#received.indexOf('\n');
    if (this.#received.length > MAX_OUTPUT_BYTES) this.#fail('output_limit');
    else if (end >= 0) this.#take(this.#received.slice(0, end), this.#received.slice(end + 1));
  }

  #take(line: string, rest: string): void {
    const answer = readAnswer(line);
    const settle = this.#settle;
    if (!answer || !settle || rest !== '') {
      this.#fail('crash'); // unsolicited output
      return;
    }
    this.#received = '';
    this.#settle = null;
    settle(answer.type === 'ready' ? null : answer);
  }

  #readError(text: string): void {
    this.#errors = (this.#errors + text).slice(-2000);
  }

  #fail(reason: PythonFailure): void {
    this.#failure ??= reason;
    this.#child.kill('SIGKILL');
  }

  #end(): void {
    this.alive = false;
    this.#settle?.(this.#describe());
    this.#settle = null;
  }

  #describe(): PythonOutcome {
    const { seconds, memoryBytes } = this.#limits;
    const reason = this.#failure ?? 'crash';
    const messages: Record<PythonFailure, string> = {
      timeout: `the grader took longer than ${seconds} seconds`,
      memory_limit: `the grader took more than ${Math.round(memoryBytes / 2 ** 20)} MiB of memory`,
      output_limit: 'the grader wrote more than an answer',
      crash: `the grader's process ended${this.#errors ? `: ${lastLine(this.#errors)}` : ''}`,
    };
    return { type: 'failed', reason, message: messages[reason] };
  }

  /** Only where /proc exists (Linux). */
  #watchMemory(wrapped: boolean): void {
    if (process.platform !== 'linux') return;
    const limit = this.#limits.memoryBytes + OVERHEAD_BYTES;
    const timer = setInterval(async () => {
      const bytes = await residentBytes(this.#child.pid, wrapped);
      if (bytes > limit) this.#fail('memory_limit');
    }, WATCH_MS);
    void this.#gone.then(() => clearInterval(timer));
  }
}

async function residentBytes(pid: number | undefined, wrapped: boolean): Promise<number> {
  try {
    const children = wrapped ? await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8') : '';
    const statm = await readFile(`/proc/${children.trim().split(' ')[0] || pid}/statm`, 'utf8');
    return Number(statm.split(' ')[1]) * PAGE_BYTES;
  } catch {
    return 0; // it has exited
  }
}

function lastLine(text: string): string {
  const line = text.split('\n').findLast(each => /error/i.test(each)) ?? text.trim().split('\n').at(-1)!;
  return line.slice(0, 300);
}
