// Finds stop strings in streamed text; holds back text that could still become one. Independent of tokens.

export interface StopScan {
  /** Text that certainly precedes any stop string. */
  text: string;
  stopped: boolean;
}

export interface StopScanner {
  push(piece: string): StopScan;
  /** Returns the held text at the end of the stream. */
  flush(): string;
}

/** Length of the longest suffix of `text` that is a proper prefix of one of `stops`. */
export function heldLength(text: string, stops: readonly string[]): number {
  let held = 0;
  for (const stop of stops)
    for (let length = Math.min(stop.length - 1, text.length); length > held; length--)
      if (text.endsWith(stop.slice(0, length))) held = length;
  return held;
}

/** Start of the stop string that is complete first (the longest of those that end together), or -1. */
function firstStop(text: string, stops: readonly string[]): number {
  let begin = -1;
  let end = Infinity;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    const completed = at + stop.length;
    if (at < 0 || completed > end || (completed === end && at > begin)) continue;
    begin = at;
    end = completed;
  }
  return begin;
}

/** Empty stop strings are ignored. */
export function createStopScanner(stopStrings: readonly string[]): StopScanner {
  const stops = stopStrings.filter(stop => stop !== '');
  let held = '';
  return {
    push(piece) {
      const text = held + piece;
      const index = firstStop(text, stops);
      if (index >= 0) {
        held = '';
        return { text: text.slice(0, index), stopped: true };
      }
      const free = text.length - heldLength(text, stops);
      held = text.slice(free);
      return { text: text.slice(0, free), stopped: false };
    },
    flush() {
      const text = held;
      held = '';
      return text;
    },
  };
}
