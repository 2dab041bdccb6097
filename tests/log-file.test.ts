// The log files of `anneal start` on a disk that is full for a while: /dev/full, behind a link that is turned to a file later.
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openLogFile } from '../src/log-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'anneal-log-file-'));

test.skipIf(process.platform !== 'linux')('lines that find no room are lost, and nothing else', async () => {
  const path = join(folder, 'logs', 'api.log');
  const said: string[] = [];
  openLogFile(path, () => undefined); // makes the folder
  rmSync(path, { force: true });
  symlinkSync('/dev/full', path);
  const add = openLogFile(path, line => said.push(line));
  add('one');
  await expect.poll(() => said).toEqual([expect.stringMatching(/api\.log cannot be written.*ENOSPC/)]);
  rmSync(path);
  symlinkSync(join(folder, 'elsewhere'), path);
  await expect
    .poll(() => {
      add('two');
      return readFileSync(path, { encoding: 'utf8', flag: 'a+' });
    })
    .toMatch(/^(two\n)+$/);
  expect(said).toHaveLength(1);
});
