// GET /healthz: liveness. GET /readyz: readiness, which checks the database, the object store and the queue.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { json } from '../schemas/errors.ts';
import { missingMigrations } from '../store/migrate.ts';

const CHECK_TIMEOUT_MS = 3000;

const ready = { status: 'ready', checks: { database: 'ok', object_store: 'ok', queue: 'ok' } };

export function healthRoutes(app: FastifyInstance, deps: Deps, version: string): void {
  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'getHealth',
        tags: ['Health'],
        summary: 'Liveness',
        description: 'Answers as soon as the process listens, even if the database does not.',
        security: [],
        response: { 200: json('The process is up.', Type.Ref('Health'), { status: 'ok', version }) },
      },
    },
    () => ({ status: 'ok', version }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'getReadiness',
        tags: ['Health'],
        summary: 'Readiness',
        description: 'Checks the database, the object store and the queue.',
        security: [],
        response: {
          200: json('Everything answers.', Type.Ref('Readiness'), ready),
          503: json('Something does not answer.', Type.Ref('Readiness'), {
            status: 'unavailable',
            checks: { ...ready.checks, object_store: 'connect ECONNREFUSED 127.0.0.1:9000' },
          }),
        },
      },
    },
    async (_request, reply) => {
      const [database, objectStore, queue] = await Promise.all([
        outcome(() => checkDatabase(deps)),
        outcome(() => deps.blobs.check()),
        outcome(() => deps.queue.check()),
      ]);
      const checks = { database, object_store: objectStore, queue };
      const isReady = Object.values(checks).every(result => result === 'ok');
      if (!isReady) reply.status(503);
      return { status: isReady ? 'ready' : 'unavailable', checks };
    },
  );
}

async function checkDatabase(deps: Deps): Promise<void> {
  const missing = await missingMigrations(deps.pool);
  if (missing.length > 0) throw new Error(`not migrated (${missing.join(', ')}): run \`migrate\``);
}

async function outcome(check: () => Promise<void>): Promise<string> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`no answer within ${CHECK_TIMEOUT_MS / 1000} s`)),
    CHECK_TIMEOUT_MS,
  );
  try {
    await Promise.race([check(), timeout]);
    return 'ok';
  } catch (error) {
    return (error as Error).message || String((error as { code?: string }).code ?? error);
  } finally {
    clearTimeout(timer);
  }
}
