// Waiting for what is away: tried until it works, and said twice however often that takes.
import pino from 'pino';
import { expect, test } from 'vitest';
import { untilItWorks } from '../../src/queue/retry.ts';

function watched() {
  const entries: Record<string, unknown>[] = [];
  const log = pino({ base: null }, { write: (line: string) => entries.push(JSON.parse(line)) });
  return { log, entries };
}

const away = () => Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });

test('what fails several times is a line when it begins and one with a count when it is over', async () => {
  const { log, entries } = watched();
  let tries = 0;
  const work = async () => {
    tries += 1;
    if (tries < 4) throw away();
    return 'done';
  };
  expect(await untilItWorks(work, { what: 'writing steps', log })).toBe('done');
  expect(entries).toMatchObject([
    { msg: 'writing steps failed; it is tried until it works', error: 'connect ECONNREFUSED' },
    { msg: 'writing steps works again', failures: 3 },
  ]);
});

test('what works says nothing, and what waiting does not mend is thrown', async () => {
  const { log, entries } = watched();
  expect(await untilItWorks(async () => 1, { what: 'reading', log })).toBe(1);
  const bug = async () => {
    throw new TypeError('a bug');
  };
  await expect(untilItWorks(bug, { what: 'reading', log })).rejects.toThrow('a bug');
  expect(entries).toEqual([]);
});
