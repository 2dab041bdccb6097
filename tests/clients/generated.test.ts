// Clients generated from openapi/openapi.json in four languages: each is compiled and does the main job against a live server.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import { BASE, useServing } from '../serving/serving.ts';
import { buildProgram, type generators, missingPrograms } from './generators.ts';

const server = useServing({ environment: { ANNEAL_THREADS: '1' } });
let worker: Worker;

beforeAll(async () => {
  worker = await startWorker(server.deps);
});
afterAll(() => worker?.close());

test.for<keyof typeof generators>(['typescript', 'python', 'go', 'java'])(
  '%s',
  { timeout: 600_000 },
  async (language, { skip }) => {
    const missing = missingPrograms(language);
    skip(missing.length > 0, `no ${missing.join(', ')} on this machine`);
    const program = await buildProgram(language);
    const said = await program([server.url, server.key, BASE]);
    expect(said.trim().split('\n')).toEqual([
      'upload',
      'job',
      'found 1',
      'events',
      'checkpoints 2',
      'models',
      'chat',
      'delete',
    ]);
  },
);
