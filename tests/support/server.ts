// The API with its own database and folder, listening on a free port, and official clients for it.
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import OpenAI from 'openai';
import pino from 'pino';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { buildApp } from '../../src/app.ts';
import { openBlobs } from '../../src/blobs/open.ts';
import { readConfig } from '../../src/config.ts';
import { type Deps, sandboxOptions } from '../../src/deps.ts';
import { openGraderApi } from '../../src/evaluation/grader-api.ts';
import { openSandbox } from '../../src/evaluation/sandbox/sandbox.ts';
import { newSecretKey } from '../../src/ids.ts';
import { openUsageRecorder } from '../../src/metering/usage-recorder.ts';
import { openQueue } from '../../src/queue/queue.ts';
import { openModelCache } from '../../src/serving/model-cache.ts';
import { insertAdminKey } from '../../src/store/admin-keys.ts';
import { insertApiKey } from '../../src/store/api-keys.ts';
import { EVENTS_CHANNEL } from '../../src/store/events.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { openNotifications } from '../../src/store/notifications.ts';
import { ensureDefaultProject, insertProject } from '../../src/store/projects.ts';
import { type Contract, watchAnswers } from './contract.ts';
import { createDatabase, type TestDatabase } from './postgres.ts';

export const BASE_MODEL = 'test-base';

export interface TestServer {
  app: FastifyInstance;
  deps: Deps;
  database: TestDatabase;
  /** Without a trailing slash. */
  url: string;
  projectId: string;
  key: string;
  /** All responses are validated against the OpenAPI document: after each test, and when the server is closed. */
  contract: Contract;
  /** The official client of the default project. */
  client: OpenAI;
  /** Official client of another project. */
  otherClient: OpenAI;
  adminKey: string;
  /** Administration API, for both projects. */
  admin: OpenAI['admin']['organization'];
}

export interface TestServerOptions {
  /** Environment variables. */
  environment?: Record<string, string>;
  /** Replacements for dependencies. */
  deps?(deps: Deps): Partial<Deps>;
}

/** Call at the top of a test file; the properties are available once its tests run. */
export function useServer(options: TestServerOptions = {}): TestServer {
  const server = {} as TestServer & { close(): Promise<void> };
  beforeAll(async () => {
    Object.assign(server, await startServer(options));
  });
  afterEach(() => server.contract?.check());
  afterAll(() => server.close?.());
  return server;
}

export async function startServer(
  options: TestServerOptions = {},
): Promise<TestServer & { close(): Promise<void> }> {
  const database = await createDatabase();
  const folder = await mkdtemp(join(tmpdir(), 'anneal-test-'));
  const config = readConfig({ ANNEAL_DATA_DIR: folder, DATABASE_URL: database.url, ...options.environment });
  const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' });
  const queue = await openQueue(database.url);
  const usage = openUsageRecorder({ pool: database.pool, log });
  const events = await openNotifications(database.url, EVENTS_CHANNEL, log);
  const blobs = await openBlobs(config);
  const real: Deps = {
    config,
    log,
    pool: database.pool,
    blobs,
    queue,
    events,
    generation: {} as Deps['generation'],
    models: openModelCache(blobs, join(folder, 'cache', 'models')),
    usage,
    python: openSandbox(sandboxOptions(config, log)),
    graderApi: openGraderApi(config),
  };
  const deps = { ...real, ...options.deps?.(real) };
  const app = await buildApp(deps);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const contract = watchAnswers(app);
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;

  const project = await ensureDefaultProject(database.pool);
  const other = await insertProject(database.pool, { name: 'other' });
  await upsertBaseModel(database.pool, { id: BASE_MODEL, architecture: 'llama', ownedBy: 'test', files: [] });
  const [key, otherKey] = await Promise.all([project.id, other.id].map(id => createKey(real, id)));
  const adminKey = newSecretKey('admin');
  await insertAdminKey(database.pool, { name: 'test', secret: adminKey });
  const common = { baseURL: `${url}/v1`, maxRetries: 0 };
  const clientOf = (apiKey: string) => new OpenAI({ ...common, apiKey });

  return {
    app,
    deps,
    database,
    url,
    projectId: project.id,
    key: key!,
    contract,
    client: clientOf(key!),
    otherClient: clientOf(otherKey!),
    adminKey,
    admin: new OpenAI({ ...common, adminAPIKey: adminKey }).admin.organization,
    async close() {
      await app.close();
      await usage.close();
      await real.python.close();
      await events.close();
      await queue.close();
      await database.drop();
      await rm(folder, { recursive: true, force: true });
      contract.check();
    },
  };
}

async function createKey(deps: Deps, projectId: string): Promise<string> {
  const secret = newSecretKey();
  await insertApiKey(deps.pool, { projectId, name: 'test', secret });
  return secret;
}
