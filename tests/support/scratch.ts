// Puts all temporary folders of a test file, including those of its child processes, into one that is removed afterwards.
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const { TMPDIR } = process.env;
const folder = mkdtempSync(join(tmpdir(), 'anneal-test-'));
process.env.TMPDIR = folder;

afterAll(async () => {
  if (TMPDIR === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = TMPDIR;
  // Killed processes may still be exiting.
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});
