// The official Python client, as it is published, through the whole main job with its strict validation of answers.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import { BASE, useServing } from '../serving/serving.ts';
import { usePython } from '../support/python.ts';

const python = usePython(['openai==3.54.0']);
const server = useServing({ environment: { ANNEAL_THREADS: '1', ANNEAL_WEBHOOK_NETWORKS: '127.0.0.1' } });
let worker: Worker;

beforeAll(async () => {
  worker = await startWorker(server.deps);
});
afterAll(() => worker?.close());

test.skipIf(!python)(
  'files, uploads, jobs, pages, streams, errors, webhooks and retries',
  async () => {
    const script = await readFile(join(import.meta.dirname, 'official.py'), 'utf8');
    const { url, key, adminKey, projectId } = server;
    const said = await python!.run(script, [JSON.stringify({ url, key, adminKey, projectId, model: BASE })]);
    expect(said.trim().split('\n')).toEqual([
      'files and uploads',
      'main job',
      'other jobs',
      'pagination',
      'streaming',
      'asynchronous',
      'errors',
      'webhooks',
      'retries',
    ]);
  },
  300_000,
);
