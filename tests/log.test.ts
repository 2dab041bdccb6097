import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { openLog } from '../src/log.ts';

function logged(write: (log: ReturnType<typeof openLog>) => void): Record<string, unknown> {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _, done) {
      lines.push(String(chunk));
      done();
    },
  });
  write(openLog({ level: 'info', process: 'test' }, sink));
  return JSON.parse(lines.join(''));
}

test('is one JSON object a line, with level, time and process', () => {
  const entry = logged(log => log.info({ status: 200 }, 'request'));
  expect(entry).toMatchObject({
    level: 'info',
    process: 'test',
    pid: process.pid,
    status: 200,
    msg: 'request',
  });
  expect(Date.parse(entry.time as string)).toBeGreaterThan(Date.now() - 60_000);
});

test('hides keys and training text, wherever they stand', () => {
  const secrets = {
    authorization: 'SECRET',
    headers: { authorization: 'SECRET' },
    req: { headers: { authorization: 'SECRET' }, body: { messages: [{ content: 'SECRET' }] } },
    body: 'SECRET',
    messages: [{ content: 'SECRET' }],
    example: { prompt: 'SECRET', completion: 'SECRET' },
  };
  expect(JSON.stringify(logged(log => log.info(secrets, 'x')))).not.toContain('SECRET');
});

test('shows an error with its stack, or its message alone', () => {
  expect(logged(log => log.error({ err: new Error('broken') }, 'x')).err).toMatchObject({
    message: 'broken',
    stack: expect.any(String),
  });
  expect(logged(log => log.warn({ error: new Error('broken') }, 'x')).error).toMatchObject({
    message: 'broken',
  });
  expect(logged(log => log.warn({ error: 'broken' }, 'x')).error).toBe('broken');
});
