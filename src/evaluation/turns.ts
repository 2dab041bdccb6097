// A semaphore: limits concurrent work, first come, first served. Waiting ends when the signal aborts.

export interface Turns {
  /** Rejects with the signal's reason if aborted while waiting; after that, `work` has to watch the signal itself. */
  take<Result>(signal: AbortSignal, work: () => Promise<Result>): Promise<Result>;
}

export function openTurns(most: number): Turns {
  let free = most;
  const waiting: (() => void)[] = [];
  const giveBack = () => {
    const next = waiting.shift();
    if (next) next();
    else free++;
  };
  return {
    async take(signal, work) {
      signal.throwIfAborted();
      if (free > 0) free--;
      else await turn(waiting, signal);
      try {
        return await work();
      } finally {
        giveBack();
      }
    },
  };
}

async function turn(waiting: (() => void)[], signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  waiting.push(resolve);
  const leave = () => {
    const place = waiting.indexOf(resolve);
    if (place < 0) return; // already started
    waiting.splice(place, 1);
    reject(signal.reason);
  };
  signal.addEventListener('abort', leave, { once: true });
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
