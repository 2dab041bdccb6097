// Terminal output of the quickstart: lines, headings, and a progress bar that is redrawn in place on a terminal.
import { bar } from '../src/cli/progress-bar.ts';

interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface Screen {
  say(text: string): void;
  heading(text: string): void;
  /** Without a terminal, prints the first, the last and every thirtieth step. */
  step(done: number, total: number, text: string): void;
  /** Streams text, without a line break. */
  write(text: string): void;
}

const PLAIN_EVERY = 30;

export function openScreen(output: Output): Screen {
  let onBar = false;
  const say = (text: string) => {
    output.write(`${onBar ? '\n' : ''}${text}\n`);
    onBar = false;
  };
  return {
    say,
    heading: text => say(`\n${text}`),
    step(done, total, text) {
      const line = `${bar(done, total)} ${text}`;
      if (output.isTTY) {
        output.write(`\r\x1b[K${line.slice(0, (output.columns ?? 100) - 1)}`);
        onBar = true;
      } else if (done === 1 || done === total || done % PLAIN_EVERY === 0) say(line);
    },
    write: text => output.write(text),
  };
}
