// A worker as a process of its own, for tests that kill it. Its configuration is the environment's.
import { appendFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { openBlobs } from '../../src/blobs/open.ts';
import { loadConfig } from '../../src/config.ts';
import type { Answerer } from '../../src/queue/answerer.ts';
import { openQueue } from '../../src/queue/queue.ts';
import { startWorker } from '../../src/queue/worker.ts';
import { openPool } from '../../src/store/database.ts';
import { openAnswering } from './answering.ts';

/** Slow; every request that it is asked for is a line of the file TEST_ANSWERS. */
const answer: Answerer = async ({ body, signal }) => {
  await appendFile(process.env.TEST_ANSWERS!, `${(body as { line: number }).line}\n`);
  await sleep(20, undefined, { signal });
  return { statusCode: 200, requestId: 'req_1', body, retryAfterSeconds: null };
};

const config = loadConfig();
const log = pino({ level: config.logLevel }, pino.destination(2));
const pool = openPool(config.databaseUrl!, log);
const queue = await openQueue(config.databaseUrl!, { supervise: true });
const blobs = await openBlobs(config);
const answering = openAnswering({ config, log, pool, blobs });
const worker = await startWorker(
  { config, log, pool, queue, blobs, ...answering, answer: process.env.TEST_ANSWERS ? answer : undefined },
  { trainerModule: process.env.TEST_TRAINER },
);
process.send?.('ready');
process.on('SIGTERM', async () => {
  await worker.close();
  await answering.close();
  await queue.close();
  await pool.end();
  process.exit(0);
});
