// /v1/organization/runners: lists the live workers.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleRunners, runnerToWire } from '../schemas/runners.ts';
import { listRunners } from '../store/runners.ts';
import { administration } from './openapi.ts';

export function runnerRoutes(app: FastifyInstance, { pool }: Deps): void {
  app.get(
    '/v1/organization/runners',
    {
      schema: {
        ...administration,
        operationId: 'listRunners',
        summary: 'List workers',
        description: 'Workers that are alive: one that is silent for the duration of a lease is not listed.',
        response: {
          200: json('The workers.', Type.Ref('OrganizationRunnerList'), exampleRunners),
          ...errorResponses(),
        },
      },
    },
    async () => ({ object: 'list', data: (await listRunners(pool)).map(runnerToWire) }),
  );
}
