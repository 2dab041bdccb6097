// The program that `npm start` runs, when npm is told to end.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const PROGRAM = `
process.on('SIGTERM', () => { console.log('asked to end'); process.exit(); });
setTimeout(() => console.log('left alone'), 20_000);
process.stderr.write('runs');
`;

test.skipIf(process.platform === 'win32')('a program ends with the shell that npm ran it in', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-test-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'program.mjs'), PROGRAM);
  // npm's shell: it does not hand a signal on.
  const script = `node scripts/with-node.mjs '${relative(ROOT, join(folder, 'program.mjs'))}'; true`;
  const shell = spawn('sh', ['-c', script], {
    cwd: ROOT,
    env: { ...process.env, npm_lifecycle_event: 'start' },
  });
  const said = text(shell.stdout);
  await once(shell.stderr, 'data');
  shell.kill();
  expect(await said).toBe('asked to end\n');
});
