// What keys and rate limits cost a request: milliseconds for one at a time, and how many a second when many come at once,
// for one project (whose row they all want) and for many. `node benchmarks/limits.ts`; Postgres on the same machine.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { newSecretKey } from '../src/ids.ts';
import { migrateAll } from '../src/migrate-all.ts';
import { findCaller, insertApiKey } from '../src/store/api-keys.ts';
import { openPool } from '../src/store/database.ts';
import { startEmbeddedPostgres } from '../src/store/embedded-postgres.ts';
import { insertProject } from '../src/store/projects.ts';
import { takeFromLimits, writeRateLimit } from '../src/store/rate-limits.ts';

const SECONDS = Number(process.argv[2] ?? 5);
const PROJECTS = 50;
const AT_ONCE = 32;

const directory = await mkdtemp(join(tmpdir(), 'anneal-limits-'));
const database = await startEmbeddedPostgres({
  directory: join(directory, 'postgres'),
  onTrouble: console.error,
});
await migrateAll(database.url);
const pool = openPool(database.url, pino({ level: 'silent' }));
try {
  const projects = await Promise.all(Array.from({ length: PROJECTS }, makeProject));
  const [one] = projects;
  const any = () => projects[Math.floor(Math.random() * PROJECTS)]!;
  const take = ({ projectId }: Project) => takeFromLimits(pool, { projectId, model: 'm', tokens: 100 });
  console.log('| what | one at a time, ms (median, p99) | at once, per second |\n|---|---|---|');
  await measure('look up a key', () => findCaller(pool, any().secret));
  await measure('rate limits of one project', () => take(one!));
  await measure(`rate limits of ${PROJECTS} projects`, () => take(any()));
} finally {
  await pool.end();
  await database.stop();
  await rm(directory, { recursive: true, force: true });
}

interface Project {
  projectId: string;
  secret: string;
}

/** With a limit for all models and one for a model, as large as can be. */
async function makeProject(): Promise<Project> {
  const { id: projectId } = await insertProject(pool, { name: 'p' });
  const secret = newSecretKey();
  await insertApiKey(pool, { projectId, name: 'k', secret });
  const limits = { requestsPerMinute: 2e9, tokensPerMinute: 2e9, requestsPerDay: 2e9 };
  for (const model of ['all', 'm']) await writeRateLimit(pool, { projectId, model, ...limits });
  return { projectId, secret };
}

async function measure(what: string, work: () => Promise<unknown>): Promise<void> {
  await run(1, work, 1);
  const alone = (await run(1, work, SECONDS)).toSorted((a, b) => a - b);
  const together = await run(AT_ONCE, work, SECONDS);
  const at = (share: number) => alone[Math.floor(alone.length * share)]!.toFixed(2);
  console.log(`| ${what} | ${at(0.5)}, ${at(0.99)} | ${Math.round(together.length / SECONDS)} |`);
}

/** Milliseconds of each call. */
async function run(atOnce: number, work: () => Promise<unknown>, seconds: number): Promise<number[]> {
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  const worker = async () => {
    while (performance.now() < end) {
      const begun = performance.now();
      await work();
      times.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return times;
}
