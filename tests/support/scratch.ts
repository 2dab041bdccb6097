// Temporary folders of a test file lie in one of its own, which goes when the file is done: those of the processes that it starts, too.
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
  // Processes that were killed may still be ending.
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});
