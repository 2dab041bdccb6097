// /v1/fine_tuning/jobs/{id}/checkpoints: lists the checkpoints of a job that are served as models.
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { checkpointToWire, exampleCheckpoint, ListCheckpointsQuery } from '../schemas/checkpoints.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { JobId } from '../schemas/jobs.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import { listCheckpoints } from '../store/checkpoints.ts';
import { findJob } from './jobs.ts';

export function checkpointRoutes(app: FastifyInstance, deps: Deps): void {
  app.get<{ Params: JobId; Querystring: ListCheckpointsQuery }>(
    '/v1/fine_tuning/jobs/:fine_tuning_job_id/checkpoints',
    {
      schema: {
        operationId: 'listFineTuningJobCheckpoints',
        tags: ['Fine-tuning'],
        summary: 'List checkpoints',
        description:
          'The model after each epoch (the last three are kept), newest first. Each can be used by its own name.',
        params: JobId,
        querystring: ListCheckpointsQuery,
        response: {
          200: json(
            'A page of checkpoints.',
            Type.Ref('ListFineTuningJobCheckpointsResponse'),
            exampleList(exampleCheckpoint),
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const job = await findJob(deps, request);
      return toWireList(await listCheckpoints(deps.pool, job.id, request.query), checkpointToWire);
    },
  );
}
