// A small pool of processes that run Python graders. A process serves only one owner and is killed afterwards; an unused one is kept
// warm, because Python takes a second or two to start.
import { ApiError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { type Confinement, findConfinement } from './confinement.ts';
import { type PythonOutcome, type PythonProcess, startPython } from './process.ts';
import type { PythonQuestion } from './protocol.ts';

export interface PythonSandbox {
  /**
   * `owner`: owners never share a process; null for a process that is used only once. Throws the signal's reason, and ApiError if too
   * many calls are waiting or Python is not allowed on this machine.
   */
  grade(owner: string | null, question: PythonQuestion, signal: AbortSignal): Promise<PythonOutcome>;
  close(): Promise<void>;
}

export interface SandboxOptions {
  /** `isolated`: only with a network namespace. */
  allowed: 'on' | 'isolated' | 'off';
  /** Time limit of one call. */
  seconds: number;
  memoryBytes: number;
  log: Logger;
}

/** Each may use a core and its memory limit. */
const MAX_PROCESSES = 2;
const MAX_WAITING = 64;
const IDLE_MS = 60_000;
/** CPU time limit of a process, in multiples of the time limit of a call; it is replaced before it reaches it. */
const LIVES = 6;
/** Changing owners costs a process restart, so up to this many calls of one owner go before waiting calls of others. */
const IN_A_ROW = 20;

/** Owner of a process that is used only once. */
const ONCE = '';

interface Slot {
  process: PythonProcess;
  /** Null if unused. */
  owner: string | null;
  busy: boolean;
  busyMs: number;
  /** Consecutive calls of this owner that went before those of others. */
  inARow: number;
  expiry: NodeJS.Timeout | undefined;
}

export function openSandbox(options: SandboxOptions): PythonSandbox {
  return new Sandbox(options);
}

class Sandbox implements PythonSandbox {
  readonly #options: SandboxOptions;
  readonly #slots = new Set<Slot>();
  readonly #waiting: { owner: string | null; wake(): void }[] = [];
  #confinement: Confinement | null = null;
  #closed = false;

  constructor(options: SandboxOptions) {
    this.#options = options;
  }

  async grade(owner: string | null, question: PythonQuestion, signal: AbortSignal): Promise<PythonOutcome> {
    const slot = await this.#take(owner, signal);
    const began = Date.now();
    try {
      return await slot.process.ask(question, signal);
    } finally {
      slot.busyMs += Date.now() - began;
      this.#giveBack(slot);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { wake } of this.#waiting.splice(0)) wake();
    await Promise.all([...this.#slots].map(slot => this.#drop(slot)));
  }

  async #take(owner: string | null, signal: AbortSignal): Promise<Slot> {
    const confinement = this.#confine();
    for (;;) {
      if (signal.aborted) this.#wake(); // pass the wake-up on
      signal.throwIfAborted();
      if (this.#closed) throw new ApiError('server_is_overloaded', 'The server is shutting down.');
      const slot = this.#find(owner) ?? (this.#slots.size < MAX_PROCESSES ? this.#start(confinement) : null);
      if (slot) {
        clearTimeout(slot.expiry);
        Object.assign(slot, { owner: owner ?? ONCE, busy: true });
        return slot;
      }
      const other = this.#idle().find(idle => idle.owner !== null);
      if (other) await this.#drop(other);
      else await this.#wait(owner, signal);
    }
  }

  #confine(): Confinement {
    const { allowed, seconds, memoryBytes, log } = this.#options;
    if (allowed === 'off') throw refused('they are switched off (ANNEAL_PYTHON_GRADERS)');
    if (!this.#confinement) {
      this.#confinement = findConfinement({ memoryBytes, cpuSeconds: LIVES * seconds });
      if (!this.#confinement.networkless)
        log.warn('Python graders run without a network namespace: this machine does not allow one');
    }
    if (allowed === 'isolated' && !this.#confinement.networkless)
      throw refused('this machine allows no network namespace, and ANNEAL_PYTHON_GRADERS asks for one');
    return this.#confinement;
  }

  #idle(): Slot[] {
    return [...this.#slots].filter(slot => !slot.busy);
  }

  #find(owner: string | null): Slot | undefined {
    const idle = this.#idle();
    const own = idle.find(slot => owner !== null && slot.owner === owner);
    return own ?? idle.find(slot => slot.owner === null);
  }

  #start(confinement: Confinement): Slot {
    const process = startPython(confinement, this.#options);
    const slot: Slot = { process, owner: null, busy: false, busyMs: 0, inARow: 0, expiry: undefined };
    this.#slots.add(slot);
    return slot;
  }

  #giveBack(slot: Slot): void {
    slot.busy = false;
    const spent = slot.owner === ONCE || slot.busyMs > (LIVES - 2) * this.#options.seconds * 1000;
    if (!slot.process.alive || spent) {
      void this.#drop(slot).then(() => this.#warmUp());
      return;
    }
    this.#expire(slot);
    this.#wake(slot);
    this.#warmUp();
  }

  /** Wakes the first waiter, preferring those of the slot's owner, for which no restart is needed. */
  #wake(slot: Slot | null = null): void {
    const own = this.#waiting.findIndex(({ owner }) => owner === slot?.owner);
    const chosen = slot && own >= 0 && slot.inARow++ < IN_A_ROW ? own : 0;
    this.#waiting.splice(chosen, 1)[0]?.wake();
  }

  /** Keeps an unused process ready if there is room. */
  #warmUp(): void {
    const free = !this.#closed && this.#slots.size < MAX_PROCESSES && this.#waiting.length === 0;
    if (free && !this.#idle().some(slot => slot.owner === null)) this.#expire(this.#start(this.#confine()));
  }

  #expire(slot: Slot): void {
    slot.expiry = setTimeout(() => void this.#drop(slot), IDLE_MS).unref();
  }

  async #drop(slot: Slot): Promise<void> {
    clearTimeout(slot.expiry);
    slot.busy = true; // not available any more
    await slot.process.kill();
    this.#slots.delete(slot);
    this.#wake();
  }

  async #wait(owner: string | null, signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING) {
      const message = 'Too many Python graders are waiting at the moment. Please retry.';
      throw new ApiError('server_is_overloaded', message, { retryAfterSeconds: 5 });
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const entry = { owner, wake: () => resolve() };
    this.#waiting.push(entry);
    signal.addEventListener('abort', entry.wake, { once: true });
    await promise;
    signal.removeEventListener('abort', entry.wake);
    const left = this.#waiting.indexOf(entry);
    if (left >= 0) this.#waiting.splice(left, 1);
  }
}

function refused(why: string): ApiError {
  return new ApiError('unsupported_value', `Python graders cannot be run here: ${why}.`, {
    param: 'grader.type',
  });
}
